//! The memory that decoders may use together.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::ImageError;

/// A permit of the semaphore stands for so many bytes: its count of permits is 32 bits wide.
const UNIT: u64 = 64 << 10;

/// Work on more pixels than these leaves much freed memory behind: about 5 megapixels of RGB.
const LARGE: u64 = 16 << 20;

/// A number of bytes shared by everybody who decodes. Whoever asks first is served first, however much it is.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    units: Arc<Semaphore>,
    total_units: u32,
}

impl MemoryBudget {
    /// A budget of so many bytes, rounded down to 64 KiB, up to 256 TiB.
    pub fn new(bytes: u64) -> Self {
        let total_units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX);
        Self { units: Arc::new(Semaphore::new(total_units as usize)), total_units }
    }

    /// Waits until so many bytes are free, and holds them. A request that is dropped loses its place.
    ///
    /// # Errors
    /// [`ImageError::OverBudget`] at once where it is more than the whole budget.
    ///
    /// # Panics
    /// Never: the semaphore is not closed.
    pub async fn reserve(&self, bytes: u64) -> Result<Reservation, ImageError> {
        let units = self.units_for(bytes)?;
        let permit = Arc::clone(&self.units).acquire_many_owned(units).await;
        Ok(Reservation { permit: permit.expect("the semaphore is never closed") })
    }

    /// Holds so many bytes if they are free now and nobody waits before; else none.
    ///
    /// # Errors
    /// [`ImageError::OverBudget`] where it is more than the whole budget.
    pub fn try_reserve(&self, bytes: u64) -> Result<Option<Reservation>, ImageError> {
        let units = self.units_for(bytes)?;
        let permit = Arc::clone(&self.units).try_acquire_many_owned(units).ok();
        Ok(permit.map(|permit| Reservation { permit }))
    }

    /// Bytes held now.
    pub fn used(&self) -> u64 {
        self.total() - self.units.available_permits() as u64 * UNIT
    }

    /// Bytes of the whole budget.
    pub fn total(&self) -> u64 {
        u64::from(self.total_units) * UNIT
    }

    fn units_for(&self, bytes: u64) -> Result<u32, ImageError> {
        let over = ImageError::OverBudget { budget: self.total(), needed: bytes };
        match u32::try_from(bytes.div_ceil(UNIT)) {
            Ok(units) if units <= self.total_units => Ok(units),
            _ => Err(over),
        }
    }
}

/// Bytes held from a [`MemoryBudget`] until this is dropped.
#[derive(Debug)]
pub struct Reservation {
    permit: OwnedSemaphorePermit,
}

impl Reservation {
    /// Bytes held, a multiple of 64 KiB.
    pub fn bytes(&self) -> u64 {
        self.permit.num_permits() as u64 * UNIT
    }

    /// Gives back what goes beyond so many bytes.
    pub fn shrink_to(&mut self, bytes: u64) {
        let keep = usize::try_from(bytes.div_ceil(UNIT)).unwrap_or(usize::MAX);
        // Dropping the split part gives it back.
        drop(self.permit.split(self.permit.num_permits().saturating_sub(keep)));
    }
}

/// After work that held so many bytes of pixels: freed memory goes back to the system where it is much. The C library
/// would keep it, for each of its arenas, and the next large image is served from another one.
pub(crate) fn give_back(held: u64) {
    if held > LARGE {
        trim();
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "a call of the C library")]
fn trim() {
    // SAFETY: takes a number and no pointer, and may be called from any thread at any time (malloc_trim(3)).
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn gives_back_on_drop_and_on_shrinking() {
        let budget = MemoryBudget::new(1 << 20);
        let mut held = budget.reserve((1 << 20) - 1).await.unwrap();
        assert_eq!((held.bytes(), budget.used()), (1 << 20, 1 << 20));
        assert!(budget.try_reserve(1).unwrap().is_none());
        held.shrink_to(100_000);
        assert_eq!((held.bytes(), budget.used()), (131_072, 131_072));
        let rest = budget.try_reserve(900_000).unwrap().expect("is free now");
        drop(held);
        assert_eq!(budget.used(), rest.bytes());
        drop(rest);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn refuses_what_can_never_be_had() {
        let budget = MemoryBudget::new(1 << 20);
        let error = budget.reserve((1 << 20) + 1).await.unwrap_err();
        assert_eq!(error, ImageError::OverBudget { budget: 1 << 20, needed: (1 << 20) + 1 });
        assert!(budget.try_reserve(u64::MAX).is_err());
    }

    #[tokio::test]
    async fn nobody_overtakes_a_big_request() {
        let budget = MemoryBudget::new(1 << 20);
        let held = budget.reserve(1 << 19).await.unwrap();
        let big = tokio::spawn({
            let budget = budget.clone();
            async move { budget.reserve(1 << 20).await }
        });
        tokio::task::yield_now().await;
        assert!(budget.try_reserve(1).unwrap().is_none(), "the big request stands before");
        drop(held);
        assert_eq!(big.await.unwrap().unwrap().bytes(), 1 << 20);
    }
}
