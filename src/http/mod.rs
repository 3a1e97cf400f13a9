//! What every route shares; knows no feature.
