//! Every backend under the same kit.

use orch_store::store_conformance;
use orch_store::testing::{Embedded, Memory};

store_conformance! { mem, Memory }
store_conformance! { embedded, Embedded::default() }
store_conformance! { embedded_tiny, Embedded::tiny() }
