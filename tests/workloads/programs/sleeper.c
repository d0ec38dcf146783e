/* Sleeps an hour, or as many milliseconds as its argument says. SIGTERM ends it with 0, a sleep that breaks off with 1. */
#include "sys.h"

static void handle(int signal)
{
	(void)signal;
	sys1(EXIT_GROUP, 0);
}

int program(char **argv)
{
	struct {
		void (*handler)(int);
		unsigned long flags;
		void (*restorer)(void);
		u64 mask;
	} action = { handle, 0x04000000 /* SA_RESTORER */, 0, 0 };
	long ms = argv[1] ? number(argv[1]) : 3600000;
	long time[2] = { ms / 1000, ms % 1000 * 1000000 };

	if (sys6(13, 15, (long)&action, 0, 8, 0, 0))		/* rt_sigaction SIGTERM */
		return 2;
	return sys3(35, (long)time, 0, 0) != 0;			/* nanosleep */
}
