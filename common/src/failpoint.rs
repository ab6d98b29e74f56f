//! Named crash points between durable steps, for fault tests. Without the feature `failpoints` they are
//! nothing.
//!
//! A test starts a real binary with `FAILPOINTS="mover.copied=return"`: the process aborts there, as if the
//! machine had. Other actions are those of the crate `fail`: `pause`, `sleep(ms)`, `panic`, `1*return`, …

/// `failpoint!("mover.copied")` marks a point at which a test may stop the process.
/// `failpoint!("mover.copied", |why: String| Err(…))` may also return this from the enclosing function, on
/// the action `return(why)`.
#[macro_export]
macro_rules! failpoint {
    ($name:expr) => {
        if let Some(why) = $crate::failpoint::hit($name) {
            panic!("failpoint {} returns nothing here: {why}", $name);
        }
    };
    ($name:expr, $answer:expr) => {
        if let Some(why) = $crate::failpoint::hit($name) {
            return $answer(why);
        }
    };
}

/// Called by [`failpoint!`](crate::failpoint!). `return` aborts the process, `return(text)` gives the text.
#[cfg(feature = "failpoints")]
#[must_use]
pub fn hit(name: &str) -> Option<String> {
    fail::fail_point!(name, |argument| match argument {
        Some(text) => Some(text),
        None => std::process::abort(),
    });
    None
}

/// Called by [`failpoint!`](crate::failpoint!): nothing happens without the feature.
#[cfg(not(feature = "failpoints"))]
#[must_use]
#[inline(always)]
pub const fn hit(_name: &str) -> Option<String> {
    None
}

/// Reads `FAILPOINTS`; the points are active while the result lives.
#[cfg(feature = "failpoints")]
pub(crate) fn activate() -> fail::FailScenario<'static> {
    fail::FailScenario::setup()
}

#[cfg(all(test, feature = "failpoints"))]
mod tests {
    fn copies() -> Result<&'static str, String> {
        crate::failpoint!("test.copied", Err);
        crate::failpoint!("test.off");
        Ok("copied")
    }

    #[test]
    fn a_point_is_nothing_until_a_test_makes_it_something() {
        let _scenario = fail::FailScenario::setup();
        assert_eq!(copies(), Ok("copied"));
        fail::cfg("test.copied", "return(no room)").unwrap();
        assert_eq!(copies(), Err("no room".to_owned()));
        fail::cfg("test.copied", "off").unwrap();
        assert_eq!(copies(), Ok("copied"));
    }
}
