/* Numbers that no table names: within a table's 1,024, beyond it, and negative. */
#include "sys.h"

int program(char **argv)
{
	(void)argv;
	call_23_times(110);		/* getppid */
	for (int i = 0; i < 7; i++)
		sys0(5000);
	for (int i = 0; i < 3; i++)
		sys0(-1);
	sys0(1000);
	int80(1001, 0, 0, 0, 0, 0);
	int80(6000, 0, 0, 0, 0, 0);
	sys0(0x40000000 | 1002);
	return 0;
}
