//! `wasi:clocks`: the clocks of this machine, or coarse ones. What takes less than the grain of a clock cannot be
//! measured with it, which is how secrets leak through caches and branches. Timers go off where the clock steps: a fine
//! timer beside a coarse clock would be a fine clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::time::sleep;
use wasmtime::component::{Accessor, HasData, Linker, Resource};
use wasmtime_wasi::clocks::{WallClock, WasiClocksCtxView};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock as p2;
use wasmtime_wasi::p3::bindings::clocks::{monotonic_clock as p3, types};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

/// How coarse clocks are, shared by all who go by it. It may change.
#[derive(Debug, Clone, Default)]
pub struct Grain(Arc<AtomicU64>);

impl Grain {
    /// From now on; none is for clocks as they are.
    pub fn set(&self, grain: Option<Duration>) {
        self.0
            .store(nanos(grain.unwrap_or_default()), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The clocks of an instance.
#[derive(Debug, Clone)]
pub struct Clocks {
    /// The monotonic clock counts from here.
    began: Instant,
    of_tenant: Option<Grain>,
    own: u64,
}

impl Clocks {
    /// As coarse as the coarser of the two; the monotonic one counts from `began`.
    #[must_use]
    pub fn new(of_tenant: Option<Grain>, own: Option<Duration>, began: Instant) -> Self {
        Self {
            began,
            of_tenant,
            own: nanos(own.unwrap_or_default()),
        }
    }

    /// Nanoseconds; 1 of clocks as they are.
    fn grain(&self) -> u64 {
        let of_tenant = self.of_tenant.as_ref().map_or(0, Grain::get);
        of_tenant.max(self.own).max(1)
    }

    /// Whether they are, or may become, other than those of this machine.
    #[must_use]
    pub fn may_be_coarse(&self) -> bool {
        self.of_tenant.is_some() || self.own > 0
    }

    fn fine_now(&self) -> u64 {
        nanos(self.began.elapsed())
    }

    /// How long until the clock shows at least `when`.
    fn until(&self, when: u64) -> u64 {
        let (now, grain) = (self.fine_now(), self.grain());
        if when <= now - now % grain {
            return 0;
        }
        when.div_ceil(grain).saturating_mul(grain) - now
    }

    /// How long until as much has passed, and the clock steps.
    fn after(&self, duration: u64) -> u64 {
        if duration == 0 {
            return 0;
        }
        self.until(self.fine_now().saturating_add(duration))
    }
}

impl HostMonotonicClock for Clocks {
    fn resolution(&self) -> u64 {
        self.grain()
    }

    fn now(&self) -> u64 {
        let now = self.fine_now();
        now - now % self.grain()
    }
}

impl HostWallClock for Clocks {
    fn resolution(&self) -> Duration {
        WallClock
            .resolution()
            .max(Duration::from_nanos(self.grain()))
    }

    fn now(&self) -> Duration {
        let now = WallClock.now();
        let past = now.as_nanos() % u128::from(self.grain());
        now - Duration::from_nanos(u64::try_from(past).unwrap_or(0))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What an instance has of them.
pub struct ClocksView<'a> {
    /// Its clocks.
    pub clocks: &'a Clocks,
    /// Wasmtime's view of them.
    pub wasi: WasiClocksCtxView<'a>,
}

struct HasClocks;

impl HasData for HasClocks {
    type Data<'a> = ClocksView<'a>;
}

/// Puts the monotonic clock of 0.2, and of 0.3 if that `is_p3`, in place of the one that is linked.
///
/// # Errors
/// When the linker does not allow that.
pub fn link<T: Send + 'static>(
    linker: &mut Linker<T>,
    is_p3: bool,
    view: fn(&mut T) -> ClocksView<'_>,
) -> wasmtime::Result<()> {
    p2::add_to_linker::<T, HasClocks>(linker, view)?;
    if is_p3 {
        p3::add_to_linker::<T, HasClocks>(linker, view)?;
    }
    Ok(())
}

impl p2::Host for ClocksView<'_> {
    fn now(&mut self) -> wasmtime::Result<p2::Instant> {
        p2::Host::now(&mut self.wasi)
    }

    fn resolution(&mut self) -> wasmtime::Result<p2::Instant> {
        p2::Host::resolution(&mut self.wasi)
    }

    fn subscribe_instant(&mut self, when: p2::Instant) -> wasmtime::Result<Resource<DynPollable>> {
        p2::Host::subscribe_duration(&mut self.wasi, self.clocks.until(when))
    }

    fn subscribe_duration(
        &mut self,
        duration: p2::Duration,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        p2::Host::subscribe_duration(&mut self.wasi, self.clocks.after(duration))
    }
}

impl p3::Host for ClocksView<'_> {
    fn now(&mut self) -> wasmtime::Result<p3::Mark> {
        p3::Host::now(&mut self.wasi)
    }

    fn get_resolution(&mut self) -> wasmtime::Result<types::Duration> {
        p3::Host::get_resolution(&mut self.wasi)
    }
}

impl<T> p3::HostWithStore<T> for HasClocks {
    async fn wait_until(store: &Accessor<T, Self>, when: p3::Mark) -> wasmtime::Result<()> {
        wait(store.with(|mut view| view.get().clocks.until(when))).await;
        Ok(())
    }

    async fn wait_for(
        store: &Accessor<T, Self>,
        duration: types::Duration,
    ) -> wasmtime::Result<()> {
        wait(store.with(|mut view| view.get().clocks.after(duration))).await;
        Ok(())
    }
}

async fn wait(nanos: u64) {
    if nanos > 0 {
        sleep(Duration::from_nanos(nanos)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coarse_clock_steps_and_its_timers_wait_for_a_step() {
        let minute = Duration::from_secs(60);
        let clocks = Clocks::new(None, Some(minute), Instant::now());
        assert_eq!(HostMonotonicClock::now(&clocks), 0);
        assert_eq!(HostMonotonicClock::resolution(&clocks), nanos(minute));
        assert_eq!(
            HostWallClock::now(&clocks).as_nanos() % minute.as_nanos(),
            0
        );
        assert_eq!((clocks.until(0), clocks.after(0)), (0, 0));
        for left in [
            clocks.until(1),
            clocks.after(1),
            clocks.until(nanos(minute)),
        ] {
            let most = nanos(minute);
            assert!(left <= most && left > most - 1_000_000_000, "{left}");
        }
        assert!(
            clocks.after(u64::MAX) > nanos(minute),
            "for ever, and no overflow"
        );
    }

    #[test]
    fn the_coarser_of_two_grains_holds_and_a_tenants_may_change() {
        let of_tenant = Grain::default();
        let clocks = Clocks::new(
            Some(of_tenant.clone()),
            Some(Duration::from_millis(1)),
            Instant::now(),
        );
        assert_eq!(clocks.grain(), 1_000_000);
        of_tenant.set(Some(Duration::from_millis(5)));
        assert_eq!(clocks.grain(), 5_000_000);
        of_tenant.set(None);
        assert_eq!(clocks.grain(), 1_000_000);
        assert_eq!(
            Clocks::new(Some(of_tenant), None, Instant::now()).grain(),
            1
        );
    }
}
