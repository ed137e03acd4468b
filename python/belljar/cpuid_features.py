"""The features of x86 processors as CPUID tells them: name, leaf, subleaf, word and bit. It is data and nothing else.

The names are those of Linux (/proc/cpuinfo), the bits those of the manuals: Intel SDM vol. 2, CPUID; AMD APM vol. 3,
appendix E; Linux, Documentation/virt/kvm/x86/cpuid.rst for what is KVM's own.
"""

from __future__ import annotations

EAX, EBX, ECX, EDX = range(4)

_GROUPS: dict[tuple[int, int | None, int], str] = {
    (1, None, EDX): (
        "0:fpu 1:vme 2:de 3:pse 4:tsc 5:msr 6:pae 7:mce 8:cx8 9:apic 11:sep 12:mtrr 13:pge 14:mca 15:cmov 16:pat "
        "17:pse36 18:pn 19:clflush 21:dts 22:acpi 23:mmx 24:fxsr 25:sse 26:sse2 27:ss 28:ht 29:tm 31:pbe"
    ),
    (1, None, ECX): (
        "0:sse3 1:pclmulqdq 2:dtes64 3:monitor 4:ds_cpl 5:vmx 6:smx 7:est 8:tm2 9:ssse3 10:cid 11:sdbg 12:fma 13:cx16 "
        "14:xtpr 15:pdcm 17:pcid 18:dca 19:sse4_1 20:sse4_2 21:x2apic 22:movbe 23:popcnt 24:tsc_deadline_timer 25:aes "
        "26:xsave 28:avx 29:f16c 30:rdrand 31:hypervisor"
    ),
    (6, None, EAX): "0:dtherm 1:ida 2:arat 4:pln 6:pts 7:hwp",
    (7, 0, EBX): (
        "0:fsgsbase 1:tsc_adjust 2:sgx 3:bmi1 4:hle 5:avx2 7:smep 8:bmi2 9:erms 10:invpcid 11:rtm 12:cqm 14:mpx "
        "15:rdt_a 16:avx512f 17:avx512dq 18:rdseed 19:adx 20:smap 21:avx512ifma 23:clflushopt 24:clwb 25:intel_pt "
        "26:avx512pf 27:avx512er 28:avx512cd 29:sha_ni 30:avx512bw 31:avx512vl"
    ),
    (7, 0, ECX): (
        "1:avx512vbmi 2:umip 3:pku 4:ospke 5:waitpkg 6:avx512_vbmi2 7:shstk 8:gfni 9:vaes 10:vpclmulqdq 11:avx512_vnni "
        "12:avx512_bitalg 13:tme 14:avx512_vpopcntdq 16:la57 22:rdpid 24:bus_lock_detect 25:cldemote 27:movdiri "
        "28:movdir64b 29:enqcmd 30:sgx_lc"
    ),
    (7, 0, EDX): (
        "2:avx512_4vnniw 3:avx512_4fmaps 4:fsrm 8:avx512_vp2intersect 10:md_clear 14:serialize 16:tsxldtrk "
        "18:pconfig 19:arch_lbr 20:ibt 22:amx_bf16 23:avx512_fp16 24:amx_tile 25:amx_int8 26:spec_ctrl 27:intel_stibp "
        "28:flush_l1d 29:arch_capabilities 30:core_capabilities 31:spec_ctrl_ssbd"
    ),
    (7, 1, EAX): (
        "0:sha512 1:sm3 2:sm4 4:avx_vnni 5:avx512_bf16 6:lass 7:cmpccxadd 10:fzrm 11:fsrs 12:fsrc 17:fred 18:lkgs "
        "19:wrmsrns 21:amx_fp16 22:hreset 23:avx_ifma 26:lam"
    ),
    (7, 2, EDX): "0:psfd 1:ipred_ctrl 2:rrsba_ctrl 3:ddpd_u 4:bhi_ctrl 5:mcdt_no",
    (0xD, 1, EAX): "0:xsaveopt 1:xsavec 2:xgetbv1 3:xsaves 4:xfd",
    (0x4000_0001, None, EAX): (
        "0:kvm_clocksource 1:kvm_nop_io_delay 2:kvm_mmu_op 3:kvm_clocksource2 4:kvm_async_pf 5:kvm_steal_time "
        "6:kvm_pv_eoi 7:kvm_pv_unhalt 9:kvm_pv_tlb_flush 10:kvm_async_pf_vmexit 11:kvm_pv_send_ipi "
        "12:kvm_poll_control 13:kvm_pv_sched_yield 14:kvm_async_pf_int 15:kvm_msi_ext_dest_id 24:kvm_clock_stable"
    ),
    (0x8000_0001, None, ECX): (
        "0:lahf_lm 1:cmp_legacy 2:svm 3:extapic 4:cr8_legacy 5:abm 6:sse4a 7:misalignsse 8:3dnowprefetch 9:osvw 10:ibs "
        "11:xop 12:skinit 13:wdt 15:lwp 16:fma4 17:tce 21:tbm 22:topoext 23:perfctr_core 24:perfctr_nb 26:bpext "
        "27:ptsc 28:perfctr_llc 29:mwaitx"
    ),
    (
        0x8000_0001,
        None,
        EDX,
    ): "11:syscall 19:mp 20:nx 22:mmxext 25:fxsr_opt 26:pdpe1gb 27:rdtscp 29:lm 30:3dnowext 31:3dnow",
    (0x8000_0007, None, EDX): "8:invariant_tsc",
    (0x8000_0008, None, EBX): (
        "0:clzero 1:irperf 2:xsaveerptr 4:rdpru 9:wbnoinvd 12:ibpb 14:ibrs 15:stibp 17:stibp_always_on 24:ssbd "
        "25:virt_ssbd 26:ssb_no 27:cppc 28:amd_psfd"
    ),
    (0x8000_000A, None, EDX): (
        "0:npt 1:lbrv 2:svm_lock 3:nrip_save 4:tsc_scale 5:vmcb_clean 6:flushbyasid 7:decodeassists 10:pausefilter "
        "12:pfthreshold 13:avic 15:v_vmsave_vmload 16:vgif 25:vnmi"
    ),
    (0x8000_0021, None, EAX): "0:no_nested_data_bp 2:lfence_rdtsc 6:null_sel_clr_base 8:autoibrs 9:no_smm_ctl_msr",
}

FEATURES: dict[str, tuple[int, int | None, int, int]] = {
    name: (leaf, subleaf, word, int(bit))
    for (leaf, subleaf, word), names in _GROUPS.items()
    for bit, name in (entry.split(":") for entry in names.split())
}
"""Name to (leaf, subleaf or None, which of EAX, EBX, ECX, EDX, bit)."""

ALIASES = {
    "pni": "sse3",
    "sse41": "sse4_1",
    "sse42": "sse4_2",
    "pclmul": "pclmulqdq",
    "cmpxchg16b": "cx16",
    "sha": "sha_ni",
    "lzcnt": "abm",
    "constant_tsc": "invariant_tsc",
    "nonstop_tsc": "invariant_tsc",
    "tsc_deadline": "tsc_deadline_timer",
    "invtsc": "invariant_tsc",
}
"""Other names that people use."""

INDEXED = frozenset(
    {4, 7, 0xB, 0xD, 0xF, 0x10, 0x12, 0x14, 0x17, 0x18, 0x1A, 0x1D, 0x1E, 0x1F, 0x20, 0x23, 0x24, 0x8000_001D}
)
"""The leaves whose answer depends on ECX."""
