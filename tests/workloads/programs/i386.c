/* A 32-bit program. Each of its numbers means another call to x86_64: 64 is semget there, 39 getpid, 20 writev. */
#include "sys.h"

int program(char **argv)
{
	(void)argv;
	call_23_times(64);		/* getppid */
	sys3(39, 0, 0, 0);		/* mkdir: EFAULT */
	sys0(20);			/* getpid */
	sys0(201);			/* geteuid32 */
	sys3(102, -1, 0, 0);		/* socketcall: EINVAL */
	sys3(403, 0, 0, 0);		/* clock_gettime64: EFAULT */
	return 0;
}
