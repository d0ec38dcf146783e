/* Four threads, each with a call of its own; each ends by exit. */
#include "sys.h"
#include "thread.h"

static char stacks[4][STACK] __attribute__((aligned(16)));
static volatile int tids[4];
static const int own[4] = { 102 /* getuid */, 104 /* getgid */, 107 /* geteuid */, 108 /* getegid */ };

static void run(void *arg)
{
	call_23_times(110);		/* getppid */
	sys0(own[(long)arg]);
	sys1(60, 0);			/* exit */
}

int program(char **argv)
{
	(void)argv;
	for (long i = 0; i < 4; i++) {
		tids[i] = 1;
		if (thread(run, (void *)i, stacks[i] + STACK, &tids[i]) < 0)
			return 1;
	}
	for (int i = 0; i < 4; i++)
		do
			sys0(24);	/* sched_yield, at least once */
		while (tids[i]);
	return 0;
}
