/* `mover CGROUP.PROCS [HELPER]`: moves itself into that cgroup, calls getpgrp, forks a child that executes HELPER (a program beside
 * it), waits for it, and calls getsid. The moves of pam_systemd, systemd-run --scope and cgexec. */
#include "sys.h"

int program(char **argv)
{
	char path[4096];
	char *helper[] = { path, 0 };
	long file, child;

	file = sys3(257, -100, (long)argv[1], 1 /* O_WRONLY */);	/* openat */
	if (file < 0 || sys3(1, file, (long)"0", 1) != 1)		/* write */
		return 1;
	sys0(111);							/* getpgrp */
	if (argv[2]) {
		beside(argv[0], argv[2], path);
		child = sys0(57);					/* fork */
		if (child == 0) {
			sys3(59, (long)path, (long)helper, 0);		/* execve */
			return 2;
		}
		if (child < 0 || sys6(61, child, 0, 0, 0, 0, 0) != child)	/* wait4 */
			return 3;
	}
	sys1(124, 0);							/* getsid */
	return 0;
}
