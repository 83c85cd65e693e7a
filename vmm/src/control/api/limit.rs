//! Rate limits in bodies. As in Firecracker, a bucket of size or refill time zero is none: in a `PUT` no limit, in a `PATCH` the end of one.

use crate::rate::LimitChange;
use crate::spec::{DeviceError, RateLimit, wire};

/// What a `PUT` says.
pub(super) fn limit(body: Option<wire::RateLimit>) -> Result<RateLimit, DeviceError> {
    let body = body.unwrap_or_default();
    RateLimit::check(Some(wire::RateLimit {
        bandwidth: body.bandwidth.filter(is_some),
        ops: body.ops.filter(is_some),
    }))
}

/// What a `PATCH` says: what it leaves out stays.
pub(super) fn change(body: wire::RateLimit) -> Result<LimitChange, DeviceError> {
    let limit = limit(Some(body))?;
    Ok(LimitChange {
        bandwidth: body.bandwidth.map(|_| limit.bandwidth),
        ops: body.ops.map(|_| limit.ops),
    })
}

fn is_some(bucket: &wire::TokenBucket) -> bool {
    bucket.size > 0 && bucket.refill_time > 0
}
