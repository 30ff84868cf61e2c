//! Which axes of a graph's tensors count the same units: a union of axes, each a product of factors.
//!
//! A reshape splits an axis into factors (`768 = 12 heads * 64`) or joins several (`channels * height * width`), so an
//! axis is a list of factors, outermost first, and one of extent 1 is the empty list. Factors that must be permuted
//! alike are united; those that must not be permuted are pinned. Where that cannot be told, they are pinned.

/// A factor of an axis.
pub(super) type Factor = usize;

#[derive(Debug)]
enum State {
    Free {
        extent: Option<u64>,
        is_pinned: bool,
    },
    /// The same as another.
    United(Factor),
    Split(Vec<Factor>),
}

/// All factors of a graph.
#[derive(Debug, Default)]
pub(super) struct Factors(Vec<State>);

impl Factors {
    /// An axis of its own.
    pub fn axis(&mut self, extent: Option<u64>) -> Vec<Factor> {
        self.add(extent, false)
    }

    /// An axis of which nothing is known.
    pub fn pinned(&mut self) -> Vec<Factor> {
        self.add(None, true)
    }

    fn add(&mut self, extent: Option<u64>, is_pinned: bool) -> Vec<Factor> {
        if extent == Some(1) {
            return Vec::new();
        }
        self.0.push(State::Free { extent, is_pinned });
        vec![self.0.len() - 1]
    }

    /// The factors into which an axis falls by now.
    pub fn resolve(&self, axis: &[Factor]) -> Vec<Factor> {
        let mut resolved = Vec::new();
        let mut rest: Vec<Factor> = axis.iter().rev().copied().collect();
        while let Some(factor) = rest.pop() {
            match &self.0[factor] {
                State::Free { .. } => resolved.push(factor),
                State::United(other) => rest.push(*other),
                State::Split(factors) => rest.extend(factors.iter().rev()),
            }
        }
        resolved
    }

    /// The axis' extent, if it is known.
    pub fn extent(&self, axis: &[Factor]) -> Option<u64> {
        self.resolve(axis).into_iter().try_fold(1u64, |product, factor| product.checked_mul(self.factor(factor).0?))
    }

    /// A resolved factor's extent, and whether it is pinned.
    pub fn factor(&self, factor: Factor) -> (Option<u64>, bool) {
        match self.0[factor] {
            State::Free { extent, is_pinned } => (extent, is_pinned),
            _ => (None, true),
        }
    }

    /// Nothing of this axis may be permuted.
    pub fn pin(&mut self, axis: &[Factor]) {
        for factor in self.resolve(axis) {
            if let State::Free { is_pinned, .. } = &mut self.0[factor] {
                *is_pinned = true;
            }
        }
    }

    /// Both axes count the same units.
    pub fn unite(&mut self, a: &[Factor], b: &[Factor]) {
        let (mut a, mut b) = (a.to_vec(), b.to_vec());
        loop {
            // Resolved anew every time: what happened to the factors in front may concern those behind.
            (a, b) = (self.resolve(&a), self.resolve(&b));
            match (&a[..], &b[..]) {
                (a, b) if a == b => return,
                ([], rest) | (rest, []) => return self.pin(rest),
                (&[x], factors) | (factors, &[x]) => return self.refine(x, factors),
                (&[x, ..], &[y, ..]) => {
                    let fits = x == y || self.align(x, y);
                    if !fits {
                        self.pin(&a);
                        return self.pin(&b);
                    }
                    let (x, y) = (self.resolve(&[x]), self.resolve(&[y]));
                    let shared = x.len().min(y.len());
                    a = [&x[shared..], &a[1..]].concat();
                    b = [&y[shared..], &b[1..]].concat();
                }
            }
        }
    }

    /// Makes the outer parts of two factors of known extents one; false if neither divides the other.
    fn align(&mut self, x: Factor, y: Factor) -> bool {
        let (Some(outer_x), Some(outer_y)) = (self.factor(x).0, self.factor(y).0) else { return false };
        match (outer_x, outer_y) {
            (0, _) | (_, 0) => false,
            (outer_x, outer_y) if outer_x == outer_y => {
                self.refine(x, &[y]);
                true
            }
            (outer_x, outer_y) if outer_x % outer_y == 0 => {
                let inner = self.axis(Some(outer_x / outer_y));
                self.refine(x, &[&[y], &inner[..]].concat());
                true
            }
            (outer_x, outer_y) if outer_y % outer_x == 0 => {
                let inner = self.axis(Some(outer_y / outer_x));
                self.refine(y, &[&[x], &inner[..]].concat());
                true
            }
            _ => false,
        }
    }

    /// Replaces one factor by the factors that it is the product of.
    fn refine(&mut self, factor: Factor, by: &[Factor]) {
        let (extent, is_pinned) = self.factor(factor);
        let known = by.iter().filter_map(|&part| self.factor(part).0).try_fold(1u64, u64::checked_mul);
        let unknown: Vec<Factor> = by.iter().copied().filter(|&part| self.factor(part).0.is_none()).collect();
        let fits = match (extent, known) {
            (Some(extent), Some(known)) if unknown.is_empty() => extent == known,
            (Some(extent), Some(known)) => known != 0 && extent % known == 0,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if by.contains(&factor) || !fits {
            self.pin(&[factor]);
            return self.pin(by);
        }
        // The older of two stays, so that what many are united with remains one step away.
        if let &[other] = by
            && other > factor
        {
            let (other_extent, other_is_pinned) = self.factor(other);
            let is_pinned = is_pinned || other_is_pinned;
            self.0[factor] = State::Free { extent: extent.or(other_extent), is_pinned };
            self.0[other] = State::United(factor);
            return;
        }
        if let (Some(extent), Some(known), &[last]) = (extent, known, &unknown[..])
            && let State::Free { extent: unknown, .. } = &mut self.0[last]
        {
            *unknown = Some(extent / known);
        }
        if is_pinned {
            self.pin(by);
        }
        self.0[factor] = if let &[other] = by { State::United(other) } else { State::Split(by.to_vec()) };
    }

    /// Cuts axes of known extents off the inner end of an axis. What is left, and the axes; nothing if extents do not
    /// divide.
    pub fn cut(&mut self, axis: &[Factor], extent: u64) -> Option<(Vec<Factor>, Vec<Factor>)> {
        let mut outer = self.resolve(axis);
        let mut inner = Vec::new();
        let mut missing = extent;
        while missing != 1 {
            let last = outer.pop()?;
            let extent = self.factor(last).0?;
            if missing == 0 || extent == 0 {
                return None;
            }
            if missing.is_multiple_of(extent) {
                missing /= extent;
                inner.insert(0, last);
            } else if extent % missing == 0 {
                let parts = [self.axis(Some(extent / missing)), self.axis(Some(missing))];
                self.refine(last, &parts.concat());
                outer.extend(&parts[0]);
                inner.splice(0..0, parts[1].iter().copied());
                missing = 1;
            } else {
                return None;
            }
        }
        Some((outer, inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extents(factors: &Factors, axis: &[Factor]) -> Vec<Option<u64>> {
        factors.resolve(axis).iter().map(|&factor| factors.factor(factor).0).collect()
    }

    #[test]
    fn an_axis_takes_the_factors_of_what_it_is_united_with() {
        let mut factors = Factors::default();
        let (a, b) = (factors.axis(Some(12)), factors.axis(Some(12)));
        let (outer, inner) = factors.cut(&a, 4).unwrap();
        factors.unite(&b, &a);
        assert_eq!(extents(&factors, &b), [Some(3), Some(4)]);
        assert_eq!(factors.resolve(&b), [outer, inner].concat());
    }

    #[test]
    fn different_factorings_meet_in_a_common_one() {
        let mut factors = Factors::default();
        let (a, b) = (factors.axis(Some(24)), factors.axis(Some(24)));
        factors.cut(&a, 4).unwrap();
        factors.cut(&b, 12).unwrap();
        factors.unite(&a, &b);
        assert_eq!(extents(&factors, &a), [Some(2), Some(3), Some(4)]);
        assert_eq!(factors.resolve(&a), factors.resolve(&b));
        let (c, d) = (factors.axis(Some(6)), factors.axis(Some(6)));
        factors.cut(&c, 2).unwrap();
        factors.cut(&d, 3).unwrap();
        factors.unite(&c, &d);
        assert!(factors.resolve(&[c, d].concat()).iter().all(|&factor| factors.factor(factor).1));
    }

    #[test]
    fn extents_that_differ_pin_both() {
        let mut factors = Factors::default();
        let (a, b) = (factors.axis(Some(5)), factors.axis(Some(6)));
        factors.unite(&a, &b);
        assert!(factors.factor(a[0]).1 && factors.factor(b[0]).1);
    }

    #[test]
    fn a_pin_reaches_everything_united_before_and_after() {
        let mut factors = Factors::default();
        let [a, b, c] = [(); 3].map(|()| factors.axis(Some(8)));
        factors.unite(&a, &b);
        factors.pin(&b);
        factors.unite(&c, &a);
        for axis in [a, b, c] {
            assert!(factors.factor(factors.resolve(&axis)[0]).1);
        }
    }

    #[test]
    fn the_last_unknown_extent_follows_from_the_others() {
        let mut factors = Factors::default();
        let flat = factors.axis(Some(24));
        let parts = [factors.axis(Some(6)), factors.pinned()].concat();
        factors.unite(&flat, &parts);
        assert_eq!(extents(&factors, &flat), [Some(6), Some(4)]);
        assert!(!factors.factor(factors.resolve(&flat)[0]).1);
    }
}
