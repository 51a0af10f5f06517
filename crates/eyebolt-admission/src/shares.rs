use eyebolt_types::Class;

/// What classes get of a busy machine whatever is more urgent: each has a share, and is owed what it was passed over for.
#[derive(Debug, Clone)]
pub(crate) struct Shares {
    /// 0 to 1, by class.
    shares: [f64; 3],
    /// Seconds of a worker.
    owed: [f64; 3],
}

impl Shares {
    pub(crate) fn new(shares: [f64; 3]) -> Self {
        Self { shares: shares.map(|share| share.clamp(0.0, 0.9)), owed: [0.0; 3] }
    }

    /// Seconds that a class should have been served by now, and was not.
    pub(crate) fn owed(&self, class: Class) -> f64 {
        self.owed[class as usize]
    }

    /// A class was served for so long. Those that wait were passed over; those of whom nobody waits are owed nothing.
    pub(crate) fn served(&mut self, served: Class, service: f64, waits: [bool; 3]) {
        for class in Class::ALL {
            let (share, owed) = (self.shares[class as usize], &mut self.owed[class as usize]);
            if class == served {
                *owed = (*owed - service).max(0.0);
            } else if waits[class as usize] {
                *owed += service * share / (1.0 - share);
            } else {
                *owed = 0.0;
            }
        }
    }
}
