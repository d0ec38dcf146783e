/* Installs a filter of its own, says so, and lives until it is killed. */
#include "sys.h"
#include "own_filter.h"

int program(char **argv)
{
	(void)argv;
	sys6(157, 38, 1, 0, 0, 0, 0);				/* prctl: PR_SET_NO_NEW_PRIVS */
	if (sys3(157, 22, 2, (long)&filter_program) != 0)	/* prctl: PR_SET_SECCOMP */
		return 1;
	sys3(1, 1, (long)"installed\n", 10);			/* write */
	for (;;)
		sys0(34);					/* pause */
	return behind_the_filter();
}
