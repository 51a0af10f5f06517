use std::{collections::HashMap, hash::Hash};

use jiff::{SignedDuration, Timestamp};

/// A map of bounded size that forgets in constant time.
///
/// What is written is kept for at least `span`, and for less only where more than `most` others are written meanwhile.
#[derive(Debug)]
pub(super) struct Generations<K, V> {
    span: SignedDuration,
    most: usize,
    began: Option<Timestamp>,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash, V> Generations<K, V> {
    pub(super) fn new(span: SignedDuration, most: usize) -> Self {
        Self { span, most, began: None, young: HashMap::new(), old: HashMap::new() }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    pub(super) fn insert(&mut self, key: K, value: V, now: Timestamp) {
        let began = *self.began.get_or_insert(now);
        // A clock that was set back must not keep a generation for ever.
        let over = now < began || now.duration_since(began) >= self.span;
        if over || (self.young.len() >= self.most && !self.young.contains_key(&key)) {
            self.old = std::mem::take(&mut self.young);
            self.began = Some(now);
        }
        self.young.insert(key, value);
    }

    pub(super) fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_holds_more_than_two_generations() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut map = Generations::new(SignedDuration::from_secs(60), 100);
        for key in 0..1000 {
            map.insert(key, key, at(0));
            assert!(map.young.len() + map.old.len() <= 200);
        }
        assert_eq!((map.get(&999), map.get(&0)), (Some(&999), None));
        map.insert(0, 0, at(60));
        assert_eq!(map.get(&999), Some(&999), "one span later the last ones are still there");
        map.insert(1, 1, at(120));
        assert_eq!((map.get(&999), map.get(&0)), (None, Some(&0)));
        map.remove(&0);
        assert_eq!(map.get(&0), None);
    }
}
