//! What both ends of a connection between coordinator and host agree on.

/// Calls in progress at once on one connection, each a stream of HTTP/2. Agents refuse more, and
/// both ends size their windows for as many that stall.
pub const MAX_CALLS: u32 = 64;

/// Of these, calls kept free for documents and reports, however many readers there are: the
/// document, the stream of reports, its acknowledgement, and one that has just ended.
pub const MAX_PUSHES: u32 = 4;
