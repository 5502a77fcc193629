//! Histories through the cache: what hit, what missed, which file broke it, and what another
//! Dockerfile or another policy would have done.
//!
//! Nothing is executed. A definition key is a function of files and text, so a commit's tree is
//! enough to know what a build of it would have found in the cache. What a RUN would have given
//! is not known, and this crate never pretends that it is: where a figure needs it, the figure
//! names the model that it was taken from.
