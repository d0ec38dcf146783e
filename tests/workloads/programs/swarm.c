/* As many threads and as many processes as it is told, up to 64 at a time. Each process ends in a way of its own; 0 if each was
 * seen to end in that way, and no other. */
#include "sys.h"
#include "thread.h"

#define WIDTH 64

static char stacks[WIDTH][STACK] __attribute__((aligned(16)));
static volatile int tids[WIDTH];
static volatile int lived;
static long children[WIDTH], serial[WIDTH];

static void run(void *arg)
{
	(void)arg;
	__atomic_add_fetch(&lived, 1, __ATOMIC_SEQ_CST);
	sys1(60, 0);						/* exit */
}

static void end(long i)
{
	if (i % 3 == 0)
		sys1(EXIT_GROUP, i & 127);
	sys3(62, sys0(39), i % 3 == 1 ? 9 : 15, 0);		/* kill: SIGKILL, SIGTERM */
	for (;;)
		;
}

static int expected(long i)
{
	return i % 3 == 0 ? (i & 127) << 8 : i % 3 == 1 ? 9 : 15;
}

int program(char **argv)
{
	long count = argv[1] ? number(argv[1]) : 1;
	int living = 0;

	for (long i = 0; i < count; i++) {
		while (tids[i % WIDTH])
			sys0(24);				/* sched_yield */
		tids[i % WIDTH] = 1;
		if (thread(run, 0, stacks[i % WIDTH] + STACK, &tids[i % WIDTH]) < 0)
			return 1;
	}
	for (int i = 0; i < WIDTH; i++)
		while (tids[i])
			sys0(24);
	if (lived != count)
		return 2;

	for (long i = 0; i < count || living;) {
		int at, status;
		long child;

		if (i < count && living < WIDTH) {
			for (at = 0; children[at]; at++)
				;
			child = sys0(57);			/* fork */
			if (child == 0)
				end(i);
			if (child < 0)
				return 3;
			children[at] = child;
			serial[at] = i++;
			living++;
			continue;
		}
		child = sys6(61, -1, (long)&status, 0, 0, 0, 0);	/* wait4 */
		for (at = 0; at < WIDTH && children[at] != child; at++)
			;
		if (at == WIDTH || status != expected(serial[at]))
			return 4;
		children[at] = 0;
		living--;
	}
	return sys6(61, -1, 0, 0, 0, 0, 0) != -10;		/* wait4: ECHILD */
}
