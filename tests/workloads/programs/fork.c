/* fork: the child and the grandchild have calls of their own. */
#include "sys.h"

int program(char **argv)
{
	long child;

	(void)argv;
	sys0(102);					/* getuid */
	child = sys0(57);				/* fork */
	if (child == 0) {
		call_23_times(110);			/* getppid */
		child = sys0(57);
		if (child == 0) {
			sys0(104);			/* getgid */
			return 0;
		}
	}
	return child < 0 || sys6(61, child, 0, 0, 0, 0, 0) != child;	/* wait4 */
}
