//! HTTP at the viewer's edge: listeners, TLS, routes, authorisation, ranges, shedding, drain.
