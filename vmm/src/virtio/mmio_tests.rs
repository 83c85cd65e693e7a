//! What drivers may do.
