//! Running a filter as the kernel does, whoever made it.

use super::{Data, Instruction};

/// The value that a program returns for a call; `None` for a program that the kernel would not have taken.
#[must_use]
pub fn run(program: &[Instruction], data: &Data) -> Option<u32> {
    let (mut a, mut x, mut memory) = (0_u32, 0_u32, [0_u32; 16]);
    let mut at = 0_usize;
    // Jumps go forward only: no instruction comes twice.
    loop {
        let Instruction { code, jt, jf, k } = *program.get(at)?;
        at += 1;
        let slot = memory.get(k as usize).copied();
        // The operand of ALU and JMP: BPF_X or BPF_K.
        let operand = if code & 0x08 != 0 { x } else { k };
        match code {
            // LD W ABS: seccomp takes whole words only.
            0x20 if k.is_multiple_of(4) => a = *data.get(k as usize / 4)?,
            0x80 => a = 64,                           // LD W LEN
            0x81 => x = 64,                           // LDX W LEN
            0x00 => a = k,                            // LD IMM
            0x01 => x = k,                            // LDX IMM
            0x60 => a = slot?,                        // LD MEM
            0x61 => x = slot?,                        // LDX MEM
            0x02 => *memory.get_mut(k as usize)? = a, // ST
            0x03 => *memory.get_mut(k as usize)? = x, // STX
            0x07 => x = a,                            // TAX
            0x87 => a = x,                            // TXA
            0x06 => return Some(k),                   // RET K
            0x16 => return Some(a),                   // RET A
            0x05 => at = at.checked_add(k as usize)?, // JA
            0x84 => a = a.wrapping_neg(),             // NEG
            _ if code & 0x07 == 0x05 => {
                let jumps = match code & 0xf0 {
                    0x10 => a == operand,
                    0x20 => a > operand,
                    0x30 => a >= operand,
                    0x40 => a & operand != 0,
                    _ => return None,
                };
                at += usize::from(if jumps { jt } else { jf });
            }
            _ if code & 0x07 == 0x04 => {
                a = match code & 0xf0 {
                    0x00 => a.wrapping_add(operand),
                    0x10 => a.wrapping_sub(operand),
                    0x20 => a.wrapping_mul(operand),
                    0x30 => match a.checked_div(operand) {
                        Some(quotient) => quotient,
                        // A division by zero ends the program with 0.
                        None => return Some(0),
                    },
                    0x40 => a | operand,
                    0x50 => a & operand,
                    0x60 => a.wrapping_shl(operand),
                    0x70 => a.wrapping_shr(operand),
                    0xa0 => a ^ operand,
                    _ => return None,
                };
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YES: u32 = 0x7fff_0000;
    const NO: u32 = 0x0005_0001;

    fn answer(program: &[(u16, u8, u8, u32)]) -> Option<u32> {
        let program: Vec<_> = program
            .iter()
            .map(|(code, jt, jf, k)| Instruction {
                code: *code,
                jt: *jt,
                jf: *jf,
                k: *k,
            })
            .collect();
        let mut data = [0; 16];
        data[..6].copy_from_slice(&[39, 0xc000_003e, 1, 2, 3, 4]);
        data[15] = 7;
        run(&program, &data)
    }

    #[test]
    fn every_word_of_the_call_is_loaded() {
        for (offset, value) in [(0, 39), (4, 0xc000_003e), (8, 1), (16, 3), (20, 4), (60, 7)] {
            let program = [
                (0x20, 0, 0, offset),
                (0x15, 1, 0, value),
                (0x06, 0, 0, NO),
                (0x06, 0, 0, YES),
            ];
            assert_eq!(answer(&program), Some(YES), "offset {offset}");
        }
    }

    #[test]
    fn arithmetic_is_the_kernels() {
        // (39 - 40) >> 28 = 15, stored, loaded, * 3, ^ 1 = 44; jset 4; ja over a denial.
        let program = [
            (0x20, 0, 0, 0),
            (0x14, 0, 0, 40),
            (0x74, 0, 0, 28),
            (0x02, 0, 0, 15),
            (0x00, 0, 0, 3),
            (0x61, 0, 0, 15),
            (0x2c, 0, 0, 0),
            (0xa4, 0, 0, 1),
            (0x45, 0, 2, 4),
            (0x05, 0, 0, 1),
            (0x06, 0, 0, NO),
            (0x15, 0, 1, 44),
            (0x06, 0, 0, YES),
            (0x06, 0, 0, NO),
        ];
        assert_eq!(answer(&program), Some(YES));
        // A division by zero ends the program with 0.
        let divided = [(0x01, 0, 0, 0), (0x3c, 0, 0, 0), (0x06, 0, 0, YES)];
        assert_eq!(answer(&divided), Some(0));
    }

    #[test]
    fn what_the_kernel_does_not_take_has_no_answer() {
        let programs: [&[(u16, u8, u8, u32)]; 7] = [
            &[],
            // Falls, jumps and is sent out of the program.
            &[(0x20, 0, 0, 0)],
            &[(0x15, 9, 9, 0)],
            &[(0x05, 0, 0, u32::MAX)],
            // Beyond the call, between two words, no scratch memory.
            &[(0x20, 0, 0, 64), (0x06, 0, 0, YES)],
            &[(0x20, 0, 0, 2), (0x06, 0, 0, YES)],
            &[(0x60, 0, 0, 16), (0x06, 0, 0, YES)],
        ];
        for program in programs {
            assert_eq!(answer(program), None, "{program:?}");
        }
    }
}
