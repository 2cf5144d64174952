//! A cached access token: renewed early, by one caller at a time, and never hammered for.
//!
//! Who waits for what: while a token is valid nobody waits. In the last part of its life the first caller that
//! notices renews it and the others go on with the old one. Without a valid token one caller mints (it holds
//! `refresh`), all others wait for that lock and then find what it left: a token, or its failure, which they
//! share for a moment instead of asking again. A caller that is dropped while minting frees the lock; the next
//! one mints.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;

/// A token as the vendor gave it.
#[derive(Debug, Clone)]
pub struct Minted<T> {
    /// The token, in whatever form the adapter sends it.
    pub token: T,
    /// How long it lives from now.
    pub lives: Duration,
}

struct Entry<T> {
    token: Arc<T>,
    /// From here on it is renewed.
    renew_at: SystemTime,
    /// From here on it is useless.
    expires_at: SystemTime,
}

struct Slot<T> {
    entry: Option<Entry<T>>,
    /// When a token was last thrown away because it was refused.
    refused_at: Option<SystemTime>,
}

/// Tokens that are refused one after another are replaced this often at most: a vendor that refuses all of them
/// must not be asked for a new one with every request.
const REPLACED_EVERY: Duration = Duration::from_secs(1);

/// Keeps one token of type `T`; minting fails with an `E`.
pub struct TokenCache<T, E> {
    current: RwLock<Slot<T>>,
    /// The last failure and its time. Whoever holds the lock mints.
    refresh: Mutex<Option<(SystemTime, E)>>,
    early: Duration,
    failure_lives: Duration,
}

impl<T, E: Clone> TokenCache<T, E> {
    /// A cache that renews `early` before expiry, but never before three quarters of a token's life.
    pub fn new(early: Duration) -> Self {
        Self {
            current: RwLock::new(Slot { entry: None, refused_at: None }),
            refresh: Mutex::new(None),
            early,
            failure_lives: Duration::from_secs(1),
        }
    }

    /// The token: from the cache, or from `mint`, which is called by one caller at a time.
    pub async fn get(
        &self,
        now: fn() -> SystemTime,
        mint: impl AsyncFnOnce() -> Result<Minted<T>, E>,
    ) -> Result<Arc<T>, E> {
        let (mut last_failure, still_good) = match self.lookup(now()) {
            Lookup::Fresh(token) => return Ok(token),
            Lookup::Ageing(token) => match self.refresh.try_lock() {
                Ok(guard) => (guard, Some(token)),
                // Somebody is at it already.
                Err(_) => return Ok(token),
            },
            Lookup::None => (self.refresh.lock().await, None),
        };
        // Whoever held the lock before may have left a token or a failure.
        if let Lookup::Fresh(token) = self.lookup(now()) {
            return Ok(token);
        }
        if let Some((at, error)) = last_failure.as_ref() {
            let recent = now().duration_since(*at).is_ok_and(|age| age < self.failure_lives);
            if recent {
                return still_good.ok_or_else(|| error.clone());
            }
        }
        match mint().await {
            Ok(minted) => {
                *last_failure = None;
                Ok(self.keep(minted, now()))
            }
            Err(error) => {
                *last_failure = Some((now(), error.clone()));
                still_good.ok_or(error)
            }
        }
    }

    /// Forgets the token if it is still `refused`: of many callers whose requests were refused with one token, only
    /// the first has an effect. It has none if another token was refused a moment ago; then this one is
    /// given out again for a while.
    pub fn invalidate(&self, refused: &Arc<T>, now: SystemTime) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let is_current = current.entry.as_ref().is_some_and(|entry| Arc::ptr_eq(&entry.token, refused));
        let lately =
            current.refused_at.is_some_and(|at| now.duration_since(at).is_ok_and(|age| age < REPLACED_EVERY));
        if is_current && !lately {
            *current = Slot { entry: None, refused_at: Some(now) };
        }
    }

    /// Somebody asks whether what was refused is mended: neither the failure of a moment ago nor that a token was replaced
    /// then is held against the next call. A token that is still good is kept.
    pub async fn ask_anew(&self) {
        *self.refresh.lock().await = None;
        self.current.write().unwrap_or_else(PoisonError::into_inner).refused_at = None;
    }

    fn lookup(&self, now: SystemTime) -> Lookup<T> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        match current.entry.as_ref() {
            Some(entry) if now < entry.renew_at => Lookup::Fresh(entry.token.clone()),
            Some(entry) if now < entry.expires_at => Lookup::Ageing(entry.token.clone()),
            _ => Lookup::None,
        }
    }

    fn keep(&self, minted: Minted<T>, now: SystemTime) -> Arc<T> {
        let token = Arc::new(minted.token);
        let early = self.early.min(minted.lives / 4);
        let entry = Entry {
            token: token.clone(),
            renew_at: now + minted.lives.saturating_sub(early),
            expires_at: now + minted.lives,
        };
        self.current.write().unwrap_or_else(PoisonError::into_inner).entry = Some(entry);
        token
    }
}

enum Lookup<T> {
    Fresh(Arc<T>),
    Ageing(Arc<T>),
    None,
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::future::join_all;

    use super::*;

    /// Each test has its thread (`tokio::test` runs on one), so each has its own clock.
    mod clock {
        use std::cell::Cell;
        use std::time::{Duration, SystemTime};

        thread_local!(static SECONDS: Cell<u64> = const { Cell::new(0) });

        pub(super) fn now() -> SystemTime {
            SystemTime::UNIX_EPOCH + Duration::from_secs(SECONDS.get())
        }

        pub(super) fn set(seconds: u64) {
            SECONDS.set(seconds);
        }
    }

    struct Mint(AtomicU32);

    impl Mint {
        async fn ok(&self) -> Result<Minted<u32>, &'static str> {
            tokio::task::yield_now().await;
            let token = self.0.fetch_add(1, Ordering::Relaxed) + 1;
            Ok(Minted { token, lives: Duration::from_hours(1) })
        }

        async fn refused(&self) -> Result<Minted<u32>, &'static str> {
            tokio::task::yield_now().await;
            self.0.fetch_add(1, Ordering::Relaxed);
            Err("refused")
        }

        fn count(&self) -> u32 {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn cache() -> (TokenCache<u32, &'static str>, Mint) {
        (TokenCache::new(Duration::from_secs(225)), Mint(AtomicU32::new(0)))
    }

    #[tokio::test]
    async fn a_thousand_callers_make_one_token() {
        let (cache, mint) = cache();
        let tokens = join_all((0..1000).map(|_| cache.get(clock::now, || mint.ok()))).await;
        assert!(tokens.iter().all(|token| **token.as_ref().unwrap() == 1));
        assert_eq!(mint.count(), 1);
    }

    #[tokio::test]
    async fn a_thousand_callers_share_one_refusal_and_a_second_later_it_is_tried_again() {
        let (cache, mint) = cache();
        let tokens = join_all((0..1000).map(|_| cache.get(clock::now, || mint.refused()))).await;
        assert!(tokens.iter().all(|token| *token == Err("refused")));
        assert_eq!(mint.count(), 1);
        clock::set(1);
        assert_eq!(cache.get(clock::now, || mint.ok()).await, Ok(Arc::new(2)));
    }

    #[tokio::test]
    async fn who_asks_whether_it_is_mended_is_not_told_a_failure_of_a_moment_ago() {
        let (cache, mint) = cache();
        assert_eq!(cache.get(clock::now, || mint.refused()).await, Err("refused"));
        assert_eq!(cache.get(clock::now, || mint.ok()).await, Err("refused"), "shared for a second");
        cache.ask_anew().await;
        let second = cache.get(clock::now, || mint.ok()).await.unwrap();
        assert_eq!(*second, 2);
        cache.invalidate(&second, clock::now());
        let third = cache.get(clock::now, || mint.ok()).await.unwrap();
        cache.ask_anew().await;
        assert_eq!(cache.get(clock::now, || mint.ok()).await, Ok(third.clone()), "what is good is kept");
        cache.invalidate(&third, clock::now());
        assert_eq!(cache.get(clock::now, || mint.ok()).await, Ok(Arc::new(4)));
    }

    #[tokio::test]
    async fn an_ageing_token_is_renewed_before_it_expires_and_serves_until_then() {
        let (cache, mint) = cache();
        cache.get(clock::now, || mint.ok()).await.unwrap();
        clock::set(3600 - 226);
        assert_eq!(cache.get(clock::now, || mint.ok()).await, Ok(Arc::new(1)));
        clock::set(3600 - 225);
        assert_eq!(cache.get(clock::now, || mint.refused()).await, Ok(Arc::new(1)), "still valid");
        clock::set(3600 - 200);
        assert_eq!(cache.get(clock::now, || mint.ok()).await, Ok(Arc::new(3)));
        clock::set(3 * 3600);
        assert_eq!(cache.get(clock::now, || mint.refused()).await, Err("refused"));
    }

    #[tokio::test]
    async fn a_refused_token_is_replaced_once_however_many_report_it() {
        let (cache, mint) = cache();
        let old = cache.get(clock::now, || mint.ok()).await.unwrap();
        cache.invalidate(&old, clock::now());
        let new = cache.get(clock::now, || mint.ok()).await.unwrap();
        cache.invalidate(&old, clock::now());
        assert_eq!(cache.get(clock::now, || mint.ok()).await, Ok(new));
        assert_eq!(mint.count(), 2);
    }

    #[tokio::test]
    async fn a_vendor_that_refuses_every_token_is_asked_for_one_a_second() {
        let (cache, mint) = cache();
        for _ in 0..100 {
            let token = cache.get(clock::now, || mint.ok()).await.unwrap();
            cache.invalidate(&token, clock::now());
        }
        assert_eq!(mint.count(), 2);
        clock::set(1);
        let token = cache.get(clock::now, || mint.ok()).await.unwrap();
        cache.invalidate(&token, clock::now());
        cache.get(clock::now, || mint.ok()).await.unwrap();
        assert_eq!(mint.count(), 3);
    }
}
