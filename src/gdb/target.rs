//! The machine as gdbstub's target: threads are vCPUs, registers, and memory through the page tables of a vCPU.
//! It never waits for the guest, and is asked only while all vCPUs are at rest.

use std::sync::Arc;

use gdbstub::arch::RegId as _;
use gdbstub::common::Tid;
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{MultiThreadBase, MultiThreadResumeOps};
use gdbstub::target::ext::base::single_register_access::{SingleRegisterAccess, SingleRegisterAccessOps};
use gdbstub::target::ext::breakpoints::BreakpointsOps;
use gdbstub::target::ext::monitor_cmd::MonitorCmdOps;
use gdbstub::target::ext::target_description_xml_override::{
    TargetDescriptionXmlOverride, TargetDescriptionXmlOverrideOps,
};
use gdbstub::target::ext::thread_extra_info::{ThreadExtraInfo, ThreadExtraInfoOps};
use gdbstub::target::{Target, TargetError, TargetResult};

use crate::addr::{GuestPhys, GuestVirt};
use crate::error::{Error, Result};
use crate::inspect::linux::Kernel;
use crate::kvm::XsaveForm;
use crate::machine::Machine;
use crate::source::{ReadMemory, ReadRegs};
use crate::x86::xsave::{Layout, Register};
use crate::x86::{Gpr, Segment, Sregs, translate};

use super::arch::{Number, Packet, X86, description, rows};
use super::grip::Grip;
use super::points::Planted;
use super::registers::File;
use super::resume::Plan;

/// The MSR that SWAPGS exchanges with GS.base (Intel SDM vol. 4, table 2-2).
const KERNEL_GS_BASE: u32 = 0xc000_0102;

/// The most bytes of memory that one packet reads.
const MOST_READ: usize = 0x4000;

/// What one client of gdb's protocol debugs.
pub struct Guest {
    pub(super) machine: Arc<Machine>,
    pub(super) grip: Arc<Grip>,
    pub(super) plan: Plan,
    pub(super) points: Vec<Planted>,
    /// The vCPU through whose page tables gdb looked last.
    pub(super) looked_from: u32,
    /// The Linux kernel that was found in the guest.
    pub(super) kernel: Option<Arc<Kernel>>,
    layout: &'static Layout,
    has_avx: bool,
    description: String,
    /// How many bytes of memory the packet in hand may still read: its length is the client's word alone.
    budget: usize,
}

/// gdb's number of the thread that stands for a vCPU.
pub fn thread_of(vcpu: u32) -> Tid {
    let number = usize::try_from(vcpu).unwrap_or(0).saturating_add(1);
    Tid::new(number).unwrap_or(Tid::MIN)
}

/// The vCPU that a thread stands for.
pub fn vcpu_of(thread: Tid) -> u32 {
    u32::try_from(thread.get() - 1).unwrap_or(u32::MAX)
}

/// What cannot be done, and is no reason to end the connection.
fn refused<T>(result: Result<T>) -> TargetResult<T, Guest> {
    result.map_err(|_| TargetError::NonFatal)
}

impl Guest {
    /// `machine`, of which `grip` holds the vCPUs. `starts`: it is set going where nobody runs it.
    pub fn new(machine: Arc<Machine>, grip: Arc<Grip>, starts: bool) -> Result<Self> {
        let layout = &XsaveForm::get()?.layout;
        let has_avx = layout.width(Register::Ymm(0)).is_some();
        let plan = Plan::new(machine.cpus.len(), starts);
        Ok(Self {
            machine,
            grip,
            plan,
            points: Vec::new(),
            looked_from: 0,
            kernel: None,
            layout,
            has_avx,
            description: description(has_avx),
            budget: 0,
        })
    }

    /// A new packet begins.
    pub(super) fn new_packet(&mut self) {
        self.budget = MOST_READ;
    }

    fn file(&self, thread: Tid) -> Result<File> {
        self.machine.cpu(vcpu_of(thread))?.with(|cpu| {
            Ok(File {
                regs: cpu.vcpu.regs()?,
                sregs: cpu.vcpu.sregs()?,
                xsave: cpu.vcpu.xsave()?,
                kernel_gs_base: cpu.vcpu.msr(KERNEL_GS_BASE)?.unwrap_or(0),
                ..File::default()
            })
        })
    }

    fn store(&self, thread: Tid, file: &File) -> Result<()> {
        self.machine.cpu(vcpu_of(thread))?.with(|cpu| {
            let changed = file.changed;
            if changed.sregs {
                cpu.vcpu.set_sregs(&file.sregs);
            }
            if changed.regs {
                cpu.vcpu.set_regs(&file.regs);
            }
            cpu.vcpu.flush()?; // so that a value which no vCPU can have is refused here
            if changed.xsave {
                cpu.vcpu.set_xsave(&file.xsave)?;
            }
            if changed.kernel_gs_base && !cpu.vcpu.set_msr(KERNEL_GS_BASE, file.kernel_gs_base)? {
                return Err(Error::Invalid(format!("{:#x} is no value of KERNEL_GS_BASE", file.kernel_gs_base)));
            }
            Ok(())
        })
    }

    fn descriptor(&self, sregs: &Sregs, selector: u16) -> Option<Segment> {
        let table = if selector & 4 == 0 { (sregs.gdt.base, sregs.gdt.limit.into()) } else { local(sregs) };
        let at = u64::from(selector & !7);
        if at + 7 > table.1 {
            return None;
        }
        let mut bytes = [0; 8];
        let count = self.read_with(sregs, table.0.wrapping_add(at), &mut bytes);
        (count == 8).then(|| Segment::from_descriptor(u64::from_le_bytes(bytes), selector))
    }

    /// The guest-physical address of a linear one, as far as the page tables say.
    pub(super) fn physical(&self, sregs: &Sregs, at: u64) -> Option<GuestPhys> {
        translate(sregs, GuestVirt(at), |at, size| {
            let mut word = [0; 8];
            let size = usize::try_from(size).ok()?.min(8);
            self.machine.memory.read(at, &mut word[..size]).ok()?;
            Some(u64::from_le_bytes(word))
        })
        .ok()
    }

    /// Reads through the page tables, page by page; says how many bytes it got.
    pub(super) fn read_with(&self, sregs: &Sregs, at: u64, into: &mut [u8]) -> usize {
        let mut done = 0;
        while done < into.len() {
            let (address, len) = piece(at, done, into.len());
            let Some(gpa) = self.physical(sregs, address) else { break };
            if self.machine.memory.read(gpa, &mut into[done..done + len]).is_err() {
                break;
            }
            done += len;
        }
        done
    }

    fn write_with(&self, sregs: &Sregs, at: u64, bytes: &[u8]) -> Result<()> {
        let mut pieces = Vec::new();
        let mut done = 0;
        while done < bytes.len() {
            let (address, len) = piece(at, done, bytes.len());
            let unmapped = || Error::Invalid(format!("no page is mapped at {address:#x}"));
            pieces.push((self.physical(sregs, address).ok_or_else(unmapped)?, done..done + len));
            done += len;
        }
        pieces.into_iter().try_for_each(|(gpa, range)| self.machine.memory.write(gpa, &bytes[range]))
    }
}

/// The part of an access that begins `done` bytes into it and lies in one page: its address and length.
fn piece(at: u64, done: usize, len: usize) -> (u64, usize) {
    let address = at.wrapping_add(u64::try_from(done).unwrap_or(0));
    let left_in_page = usize::try_from(0x1000 - (address & 0xfff)).unwrap_or(1);
    (address, left_in_page.min(len - done))
}

/// Base and limit of the local descriptor table.
fn local(sregs: &Sregs) -> (u64, u64) {
    (sregs.ldt.base, u64::from(sregs.ldt.limit))
}

impl Target for Guest {
    type Arch = X86;
    type Error = Error;

    fn base_ops(&mut self) -> BaseOps<'_, X86, Error> {
        BaseOps::MultiThread(self)
    }

    fn guard_rail_implicit_sw_breakpoints(&self) -> bool {
        true
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn support_monitor_cmd(&mut self) -> Option<MonitorCmdOps<'_, Self>> {
        Some(self)
    }

    fn support_target_description_xml_override(&mut self) -> Option<TargetDescriptionXmlOverrideOps<'_, Self>> {
        Some(self)
    }
}

impl TargetDescriptionXmlOverride for Guest {
    fn target_description_xml(
        &self,
        annex: &[u8],
        offset: u64,
        length: usize,
        buf: &mut [u8],
    ) -> TargetResult<usize, Self> {
        if annex != b"target.xml" {
            return Err(TargetError::NonFatal);
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let Some(rest) = self.description.as_bytes().get(start..) else { return Ok(0) };
        let count = rest.len().min(length).min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

impl MultiThreadBase for Guest {
    fn read_registers(&mut self, regs: &mut Packet, tid: Tid) -> TargetResult<(), Self> {
        let file = refused(self.file(tid))?;
        regs.pc = file.regs[Gpr::Rip];
        regs.bytes.clear();
        for row in rows(self.has_avx) {
            match file.get(self.layout, row.reg) {
                Some(bytes) => regs.bytes.extend(bytes.into_iter().map(Some)),
                None => regs.bytes.extend(vec![None; row.size()]),
            }
        }
        Ok(())
    }

    fn write_registers(&mut self, regs: &Packet, tid: Tid) -> TargetResult<(), Self> {
        let mut file = refused(self.file(tid))?;
        let bytes: Vec<u8> = regs.bytes.iter().map(|byte| byte.unwrap_or(0)).collect();
        let mut rest = bytes.as_slice();
        for row in rows(self.has_avx) {
            let Some((now, later)) = rest.split_at_checked(row.size()) else { break };
            if !file.set(self.layout, row.reg, now, |sregs, selector| self.descriptor(sregs, selector)) {
                return Err(TargetError::NonFatal);
            }
            rest = later;
        }
        refused(self.store(tid, &file))
    }

    fn support_single_register_access(&mut self) -> Option<SingleRegisterAccessOps<'_, Tid, Self>> {
        Some(self)
    }

    fn read_addrs(&mut self, start: u64, data: &mut [u8], tid: Tid) -> TargetResult<usize, Self> {
        let beyond = u128::from(start) + u128::try_from(data.len()).unwrap_or(u128::MAX) > 1 << 64;
        let left = self.budget.checked_sub(data.len()).filter(|_| !beyond);
        self.budget = left.ok_or(TargetError::NonFatal)?;
        self.looked_from = vcpu_of(tid);
        let sregs = refused(self.machine.sregs(vcpu_of(tid)))?;
        match self.read_with(&sregs, start, data) {
            0 if !data.is_empty() => Err(TargetError::NonFatal),
            count => Ok(count),
        }
    }

    fn write_addrs(&mut self, start: u64, data: &[u8], tid: Tid) -> TargetResult<(), Self> {
        let sregs = refused(self.machine.sregs(vcpu_of(tid)))?;
        refused(self.write_with(&sregs, start, data))
    }

    fn list_active_threads(&mut self, active: &mut dyn FnMut(Tid)) -> Result<()> {
        self.machine.cpus.iter().for_each(|slot| active(thread_of(slot.id)));
        Ok(())
    }

    fn is_thread_alive(&mut self, tid: Tid) -> Result<bool> {
        Ok(self.machine.cpu(vcpu_of(tid)).is_ok())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }

    fn support_thread_extra_info(&mut self) -> Option<ThreadExtraInfoOps<'_, Self>> {
        Some(self)
    }
}

impl ThreadExtraInfo for Guest {
    fn thread_extra_info(&self, tid: Tid, buf: &mut [u8]) -> Result<usize> {
        let name = format!("vCPU {}", vcpu_of(tid));
        let count = name.len().min(buf.len());
        buf[..count].copy_from_slice(&name.as_bytes()[..count]);
        Ok(count)
    }
}

impl SingleRegisterAccess<Tid> for Guest {
    fn read_register(&mut self, tid: Tid, number: Number, buf: &mut [u8]) -> TargetResult<usize, Self> {
        let row = rows(self.has_avx).get(number.0).ok_or(TargetError::NonFatal)?;
        let bytes = refused(self.file(tid))?.get(self.layout, row.reg).ok_or(TargetError::NonFatal)?;
        let place = buf.get_mut(..bytes.len()).ok_or(TargetError::NonFatal)?;
        place.copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn write_register(&mut self, tid: Tid, number: Number, value: &[u8]) -> TargetResult<(), Self> {
        debug_assert!(Number::from_raw_id(number.0).is_some());
        let row = rows(self.has_avx).get(number.0).ok_or(TargetError::NonFatal)?;
        let mut file = refused(self.file(tid))?;
        if !file.set(self.layout, row.reg, value, |sregs, selector| self.descriptor(sregs, selector)) {
            return Err(TargetError::NonFatal);
        }
        refused(self.store(tid, &file))
    }
}
