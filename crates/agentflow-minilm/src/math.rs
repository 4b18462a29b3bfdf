//! Kernels over `f32` slices: matrix product, normalisation, activations.

/// A matrix inside a slice.
#[derive(Clone, Copy)]
pub struct View {
    /// Where its first element is.
    pub offset: usize,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Distance of two rows.
    pub row_stride: usize,
    /// Distance of two columns.
    pub col_stride: usize,
}

impl View {
    /// A whole slice, row by row.
    pub fn rows(rows: usize, cols: usize) -> Self {
        Self::part(0, rows, cols, cols)
    }

    /// Some columns of a wider matrix.
    pub fn part(offset: usize, rows: usize, cols: usize, row_stride: usize) -> Self {
        Self {
            offset,
            rows,
            cols,
            row_stride,
            col_stride: 1,
        }
    }

    /// Rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// One past the last element; 0 if there is none.
    fn end(self) -> usize {
        match (self.rows, self.cols) {
            (0, _) | (_, 0) => 0,
            (rows, cols) => {
                self.offset + (rows - 1) * self.row_stride + (cols - 1) * self.col_stride + 1
            }
        }
    }
}

/// `out = keep · out + scale · a × b`, on this thread. `keep` is 0 or 1: 0 overwrites.
///
/// # Panics
/// If shapes do not fit each other, or a view leaves its slice.
pub fn product(
    a: (&[f32], View),
    b: (&[f32], View),
    out: (&mut [f32], View),
    keep: f32,
    scale: f32,
) {
    let ((a, av), (b, bv), (out, ov)) = (a, b, out);
    assert!(av.cols == bv.rows && ov.rows == av.rows && ov.cols == bv.cols);
    assert!(av.end() <= a.len() && bv.end() <= b.len() && ov.end() <= out.len());
    // No two elements of the result share a place.
    assert!(ov.col_stride == 1 && ov.row_stride >= ov.cols);
    // SAFETY: the asserts above keep every element of the three matrices inside its slice and
    // the elements of `out` apart; `out` is borrowed alone, so it overlaps neither input. All
    // strides are positive and fit `isize`, because slices do.
    #[allow(unsafe_code)]
    unsafe {
        gemm::gemm(
            ov.rows,
            ov.cols,
            av.cols,
            out.as_mut_ptr().add(ov.offset),
            1,
            ov.row_stride as isize,
            keep != 0.0,
            a.as_ptr().add(av.offset),
            av.col_stride as isize,
            av.row_stride as isize,
            b.as_ptr().add(bv.offset),
            bv.col_stride as isize,
            bv.row_stride as isize,
            keep,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// `x × weight + bias`; `x`: `[rows, inputs]`, `weight`: `[inputs, outputs]`.
pub fn linear(x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
    let outputs = bias.len();
    let inputs = weight.len() / outputs;
    let rows = x.len() / inputs;
    let mut out = Vec::with_capacity(rows * outputs);
    for _ in 0..rows {
        out.extend_from_slice(bias);
    }
    product(
        (x, View::rows(rows, inputs)),
        (weight, View::rows(inputs, outputs)),
        (&mut out, View::rows(rows, outputs)),
        1.0,
        1.0,
    );
    out
}

/// Rows and columns exchanged; `x`: `[rows, columns]`.
pub fn transpose(x: &[f32], columns: usize) -> Vec<f32> {
    let column = |column| x.iter().skip(column).step_by(columns);
    (0..columns).flat_map(column).copied().collect()
}

/// Adds `more` to `x`.
pub fn add(x: &mut [f32], more: &[f32]) {
    for (x, more) in x.iter_mut().zip(more) {
        *x += more;
    }
}

/// Brings each row to mean 0 and variance 1, then scales and shifts it.
pub fn layer_norm(x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
    let width = weight.len();
    for row in x.chunks_exact_mut(width) {
        let mean = row.iter().sum::<f32>() / width as f32;
        let variance = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / width as f32;
        let scale = 1.0 / (variance + eps).sqrt();
        for ((v, weight), bias) in row.iter_mut().zip(weight).zip(bias) {
            *v = (*v - mean) * scale * weight + bias;
        }
    }
}

/// Softmax of each row of `width`.
pub fn softmax(x: &mut [f32], width: usize) {
    for row in x.chunks_exact_mut(width) {
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for v in row.iter_mut() {
            *v = exp(*v - most);
        }
        let scale = 1.0 / row.iter().sum::<f32>();
        for v in row.iter_mut() {
            *v *= scale;
        }
    }
}

/// The exact GELU, `x · Φ(x)`.
pub fn gelu(x: &mut [f32]) {
    for v in x {
        *v = 0.5 * *v * (1.0 + erf(*v * std::f32::consts::FRAC_1_SQRT_2));
    }
}

/// Divides by the Euclidean length, unless that is 0.
pub fn normalize(x: &mut [f32]) {
    let length = x.iter().map(|v| v * v).sum::<f32>().sqrt();
    if length > 0.0 {
        for v in x {
            *v /= length;
        }
    }
}

/// `e` to the power of `x`, within 2e-7 of the value, without branches, so that loops over it
/// become vector instructions. Results below 1e-37 are not exact.
fn exp(x: f32) -> f32 {
    // Adding this number leaves the rounded exponent in the lowest bits of the sum.
    const SHIFT: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + SHIFT;
    let whole = shifted - SHIFT;
    // ln 2 in two parts, the first of few bits, so that its product is exact.
    let rest = x - whole * 0.693_359_4 - whole * -2.121_944_4e-4;
    let mut sum = 1.987_569_1e-4;
    for factor in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        sum = sum * rest + factor;
    }
    let fraction = sum * rest * rest + rest + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(SHIFT.to_bits());
    fraction * f32::from_bits(exponent.wrapping_add(127) << 23)
}

/// The error function, within 2e-7.
///
/// Source: Abramowitz and Stegun, 7.1.26.
fn erf(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let mut sum = 1.061_405_4;
    for factor in [-1.453_152, 1.421_413_8, -0.284_496_74, 0.254_829_6] {
        sum = sum * t + factor;
    }
    (1.0 - sum * t * exp(-x * x)).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_agree_with_exact_ones() {
        for i in -800..800 {
            let x = i as f32 / 100.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-6, "exp({x})");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(-200.0) < 1e-37);
        // Values of the error function from tables.
        for (x, value) in [
            (0.0, 0.0),
            (0.5, 0.520_499_9),
            (-1.0, -0.842_700_8),
            (2.0, 0.995_322_3),
        ] {
            assert!((erf(x) - value).abs() < 1e-6, "erf({x})");
        }
    }

    #[test]
    fn products_of_parts_of_wider_matrices() {
        // Columns 1..3 of a 2 × 4 matrix, times its own transpose.
        let x = [9.0, 1.0, 2.0, 9.0, 9.0, 3.0, 4.0, 9.0];
        let part = View::part(1, 2, 2, 4);
        let mut out = [1.0; 4];
        product(
            (&x, part),
            (&x, part.transposed()),
            (&mut out, View::rows(2, 2)),
            0.0,
            2.0,
        );
        assert_eq!(out, [10.0, 22.0, 22.0, 50.0]);
        assert_eq!(
            linear(&[1.0, 2.0], &[1.0, 3.0, 0.0, 4.0], &[0.5, -1.0]),
            [1.5, 10.0]
        );
    }

    #[test]
    fn rows_are_normalised() {
        let mut x = [1.0, 3.0];
        layer_norm(&mut x, &[2.0, 1.0], &[0.0, 5.0], 0.0);
        assert_eq!(x, [-2.0, 6.0]);
        let mut x = [0.0, 0.0, 1000.0, 1000.0];
        softmax(&mut x, 2);
        assert_eq!(x, [0.5; 4]);
        let mut x = [3.0, 4.0];
        normalize(&mut x);
        assert_eq!(x, [0.6, 0.8]);
        let mut zero = [0.0; 2];
        normalize(&mut zero);
        assert_eq!(zero, [0.0; 2]);
    }
}
