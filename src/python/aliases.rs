//! The parts of general registers as attributes of `Registers`: eax, ax, al, ah, r8d and their like.
//! It never knows what a write does to the rest: `x86::part` does.

use pyo3::prelude::*;

use super::address::Fitting;
use super::regs::Registers;

macro_rules! parts {
    ($($get:ident $set:ident $type:ident;)+) => {
        #[pymethods]
        impl Registers {
            $(
                #[doc = concat!("The part that is called ", stringify!($get), " (", stringify!($type), "). Writing does to the rest what the processor does.")]
                #[getter]
                fn $get(&self) -> PyResult<u64> {
                    self.part(stringify!($get))
                }

                #[setter]
                fn $set(&self, value: Fitting<$type>) -> PyResult<()> {
                    self.set_part(stringify!($get), value.0.into())
                }
            )+
        }
    };
}

parts! {
    eax set_eax u32; ax set_ax u16; al set_al u8; ah set_ah u8;
    ebx set_ebx u32; bx set_bx u16; bl set_bl u8; bh set_bh u8;
    ecx set_ecx u32; cx set_cx u16; cl set_cl u8; ch set_ch u8;
    edx set_edx u32; dx set_dx u16; dl set_dl u8; dh set_dh u8;
    esi set_esi u32; si set_si u16; sil set_sil u8; edi set_edi u32;
    di set_di u16; dil set_dil u8; esp set_esp u32; sp set_sp u16;
    spl set_spl u8; ebp set_ebp u32; bp set_bp u16; bpl set_bpl u8;
    r8d set_r8d u32; r8w set_r8w u16; r8b set_r8b u8; r9d set_r9d u32;
    r9w set_r9w u16; r9b set_r9b u8; r10d set_r10d u32; r10w set_r10w u16;
    r10b set_r10b u8; r11d set_r11d u32; r11w set_r11w u16; r11b set_r11b u8;
    r12d set_r12d u32; r12w set_r12w u16; r12b set_r12b u8; r13d set_r13d u32;
    r13w set_r13w u16; r13b set_r13b u8; r14d set_r14d u32; r14w set_r14w u16;
    r14b set_r14b u8; r15d set_r15d u32; r15w set_r15w u16; r15b set_r15b u8;
    eip set_eip u32; ip set_ip u16; eflags set_eflags u32; flags set_flags u16;
}
