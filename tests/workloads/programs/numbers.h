/* A list of calls from stdin: native-endian 32-bit words, each a number, with bit 31 for i386 (int 0x80) and bit 30 for x32. Needs sys.h. */

#define I386 0x80000000u

static u32 numbers[4096];

/* Reads the whole list; the value is how many, or -1. Calls: read, at least twice. */
INLINE int read_numbers(void)
{
	long got, have = 0;

	while ((got = sys3(0, 0, (long)numbers + have, (long)sizeof(numbers) - have)) > 0)
		have += got;
	return got < 0 || have % 4 ? -1 : (int)(have / 4);
}

/* The call that an entry names, with arguments of -1. */
INLINE void call(u32 entry)
{
	if (entry & I386)
		int80(entry & ~I386, -1, -1, -1, -1, -1);
	else
		sys6(entry, -1, -1, -1, -1, -1, -1);
}
