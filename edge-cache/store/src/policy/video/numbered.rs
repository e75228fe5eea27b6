//! Values by hash and by number, with a bound.

use std::collections::HashMap;

/// Values that were given a number when their hash was first seen. Two names of the same 64 bits share a value: that
/// costs a wrong guess once in a lifetime, never a wrong byte.
pub(super) struct Numbered<T> {
    numbers: HashMap<u64, u32>,
    values: Vec<Option<(u64, T)>>,
    free: Vec<u32>,
    most: usize,
}

impl<T> Numbered<T> {
    pub(super) fn new(most: usize) -> Self {
        Self { numbers: HashMap::new(), values: Vec::new(), free: Vec::new(), most }
    }

    pub(super) fn find(&self, hash: u64) -> Option<u32> {
        self.numbers.get(&hash).copied()
    }

    /// A number for a hash that has none, if there is one left.
    pub(super) fn insert(&mut self, hash: u64, value: T) -> Option<u32> {
        if self.numbers.len() >= self.most {
            return None;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.values.push(None);
            self.values.len() as u32 - 1
        });
        self.values[number as usize] = Some((hash, value));
        self.numbers.insert(hash, number);
        Some(number)
    }

    pub(super) fn get(&self, number: u32) -> Option<&T> {
        self.values.get(number as usize)?.as_ref().map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.values.get_mut(number as usize)?.as_mut().map(|(_, value)| value)
    }

    pub(super) fn remove(&mut self, number: u32) {
        if let Some((hash, _)) = self.values.get_mut(number as usize).and_then(Option::take) {
            self.numbers.remove(&hash);
            self.free.push(number);
        }
    }

    /// Numbers that were ever given, used or not.
    pub(super) fn places(&self) -> u32 {
        self.values.len() as u32
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.values.iter_mut().flatten().map(|(_, value)| value)
    }
}
