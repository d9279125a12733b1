//! The user of the suites, who has a secret instead of a home folder.

use std::ffi::OsStr;

use fbuild::action::environment::HostEnv;
use fbuild::digest::Key;
use fbuild::session::StateKey;
use fbuild::user_key;

/// The value of `FBUILD_CACHE_KEY`.
pub(crate) const SECRET: &str = "a secret that all suites share";

/// Returns the key that fbuild derives from the secret.
pub(crate) fn key() -> Key {
    user_key::from_secret(OsStr::new(SECRET)).unwrap()
}

/// Returns the source of that key.
pub(crate) fn state_key() -> StateKey {
    let env = HostEnv::from([("FBUILD_CACHE_KEY".into(), SECRET.into())]);
    StateKey::new(&env).unwrap()
}
