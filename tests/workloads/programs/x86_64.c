/* Calls by the native ABI: one that succeeds, some that fail, the first number and a high one. */
#include "sys.h"

int program(char **argv)
{
	(void)argv;
	call_23_times(110);				/* getppid */
	sys3(0, -1, 0, 0);				/* read: EBADF */
	sys0(39);					/* getpid */
	sys1(63, -1);					/* uname: EFAULT */
	sys3(257, -100, (long)"/nonexistent", 0);	/* openat: ENOENT */
	sys3(439, -100, (long)"/nonexistent", 0);	/* faccessat2: ENOENT */
	sys6(0x100000000 | 102, 0, 0, 0, 0, 0, 0);	/* getuid: the kernel looks at 32 bits of the number */
	return 0;
}
