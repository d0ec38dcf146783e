/* `mover CGROUP.PROCS [HELPER [gone]]`: moves itself into that cgroup, calls getpgrp, forks a child that executes HELPER (a program
 * beside it), waits for it, and calls getsid. The moves of pam_systemd, systemd-run --scope and cgexec. With `gone` it ends at once
 * instead, and its child executes HELPER when it is an orphan. */
#include "sys.h"

int program(char **argv)
{
	char path[4096];
	char *helper[] = { path, 0 };
	int gone = argv[2] && argv[3];
	long file, self, child;

	file = sys3(257, -100, (long)argv[1], 1 /* O_WRONLY */);	/* openat */
	if (file < 0 || sys3(1, file, (long)"0", 1) != 1)		/* write */
		return 1;
	sys0(111);							/* getpgrp */
	if (argv[2]) {
		beside(argv[0], argv[2], path);
		self = gone ? sys0(39) : 0;				/* getpid */
		child = sys0(57);					/* fork */
		if (child == 0) {
			while (gone && sys0(110) == self)		/* getppid */
				sys0(24);				/* sched_yield */
			sys3(59, (long)path, (long)helper, 0);		/* execve */
			return 2;
		}
		if (gone)
			return 0;
		if (child < 0 || sys6(61, child, 0, 0, 0, 0, 0) != child)	/* wait4 */
			return 3;
	}
	sys1(124, 0);							/* getsid */
	return 0;
}
