//! The 80-bit numbers of the x87, to and from the 64-bit ones that programs use. It never touches a register.

const BIAS: i32 = 16383;
const TOP: u64 = 1 << 63;

/// The nearest `f64` (ties to even); what is too large becomes infinite.
pub fn to_f64(bytes: [u8; 10]) -> f64 {
    let [m0, m1, m2, m3, m4, m5, m6, m7, e0, e1] = bytes;
    let mantissa = u64::from_le_bytes([m0, m1, m2, m3, m4, m5, m6, m7]);
    let word = u16::from_le_bytes([e0, e1]);
    let exponent = i32::from(word & 0x7fff);
    let magnitude = match (exponent, mantissa) {
        (_, 0) => 0.0,
        (0x7fff, TOP) => f64::INFINITY,
        (0x7fff, _) => f64::NAN,
        _ => scaled(mantissa, exponent.max(1) - BIAS - 63),
    };
    if word & 0x8000 == 0 { magnitude } else { -magnitude }
}

/// `mantissa` times two to the power of `exponent`, rounded once.
fn scaled(mantissa: u64, exponent: i32) -> f64 {
    let zeros = mantissa.leading_zeros();
    let exponent = exponent - i32::try_from(zeros).unwrap_or(0) + 63; // of the leading one
    let mantissa = mantissa << zeros;
    if exponent > 1023 {
        return f64::INFINITY;
    }
    let lost = u32::try_from(11 + (-1022 - exponent).max(0)).unwrap_or(u32::MAX); // bits that an f64 has no room for
    if lost > 64 {
        return 0.0;
    }
    let kept = mantissa.checked_shr(lost).unwrap_or(0);
    let rest = mantissa & (u64::MAX >> (64 - lost));
    let half = 1_u64 << (lost - 1);
    let rounded = kept + u64::from(rest > half || rest == half && kept & 1 == 1);
    let biased = u64::try_from(exponent + 1022).unwrap_or(0); // one less: the leading one adds it
    f64::from_bits(if exponent < -1022 { rounded } else { (biased << 52) + rounded })
}

/// The same number in 80 bits: nothing is lost.
pub fn from_f64(value: f64) -> [u8; 10] {
    let bits = value.to_bits();
    let (sign, exponent) = (u16::from(bits >> 63 != 0) << 15, i32::try_from(bits >> 52 & 0x7ff).unwrap_or(0));
    let fraction = bits & ((1 << 52) - 1);
    let (exponent, mantissa) = match (exponent, fraction) {
        (0, 0) => (0, 0),
        (0, _) => {
            let zeros = fraction.leading_zeros();
            (BIAS - 1022 - i32::try_from(zeros).unwrap_or(0) + 11, fraction << zeros)
        }
        (0x7ff, _) => (0x7fff, TOP | fraction << 11),
        _ => (exponent - 1023 + BIAS, TOP | fraction << 11),
    };
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&mantissa.to_le_bytes());
    bytes[8..].copy_from_slice(&(sign | u16::try_from(exponent).unwrap_or(0)).to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_numbers_have_their_known_bytes() {
        assert_eq!(from_f64(1.0), [0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f]);
        assert_eq!(from_f64(-2.0), [0, 0, 0, 0, 0, 0, 0, 0x80, 0x00, 0xc0]);
        // fldpi: 64 bits of pi, rounded to the nearest f64.
        assert!(
            (to_f64([0x35, 0xc2, 0x68, 0x21, 0xa2, 0xda, 0x0f, 0xc9, 0x00, 0x40]) - std::f64::consts::PI).abs()
                < 1e-300
        );
        assert!(to_f64([0xff; 10]).is_nan());
        assert!(to_f64([0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0xff]).is_infinite());
        assert!(to_f64([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0x7f]).is_infinite());
    }

    proptest! {
        #[test]
        fn every_f64_comes_back(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            let back = to_f64(from_f64(value));
            prop_assert!(value.is_nan() && back.is_nan() || back.to_bits() == bits, "{value:e} {back:e}");
        }

        #[test]
        fn no_bytes_panic(bytes in any::<[u8; 10]>()) {
            to_f64(bytes);
        }
    }
}
