/* A program that installs its own filter by prctl(2), the older way. */
#include "sys.h"
#include "own_filter.h"

int program(char **argv)
{
	(void)argv;
	if (sys6(157, 38, 1, 0, 0, 0, 0))			/* prctl PR_SET_NO_NEW_PRIVS */
		return 1;
	if (sys3(157, 22, 2, (long)&filter_program))		/* prctl PR_SET_SECCOMP */
		return 2;
	return behind_the_filter();
}
