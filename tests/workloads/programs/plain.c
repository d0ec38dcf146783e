/* Calls that depend on nothing: no environment, no limits, no stdio, no files. An argument is how many milliseconds it lives. */
#include "sys.h"

int program(char **argv)
{
	long ms = argv[1] ? number(argv[1]) : 0;
	long time[2] = { ms / 1000, ms % 1000 * 1000000 };

	call_23_times(110);			/* getppid */
	sys0(39);				/* getpid */
	sys0(102);				/* getuid */
	sys3(72, -1, 0, 0);			/* fcntl: EBADF */
	sys3(202, 0, -1, 0);			/* futex: ENOSYS */
	sys3(35, (long)time, 0, 0);		/* nanosleep, of no time without an argument */
	return 0;
}
