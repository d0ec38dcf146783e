/* A thread that is not the first executes "plain": it takes the process over, and the first one is gone. */
#include "sys.h"
#include "thread.h"

static char stack[STACK] __attribute__((aligned(16)));
static volatile int tid = 1, ready;
static char path[4096];
static char *next[] = { path, 0 };

static void run(void *arg)
{
	(void)arg;
	while (!ready)
		;
	call_23_times(110);			/* getppid */
	sys3(59, (long)path, (long)next, 0);	/* execve */
	sys1(EXIT_GROUP, 1);
}

int program(char **argv)
{
	beside(argv[0], "plain", path);
	if (thread(run, 0, stack + STACK, &tid) < 0)
		return 1;
	for (;;) {
		sys0(24);			/* sched_yield, at least once */
		ready = 1;
	}
}
