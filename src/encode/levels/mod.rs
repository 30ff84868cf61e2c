//! Weights -> integer levels and their chunks: the matrix, the variance classes, the search for levels, the frame.

pub mod feedback;
pub mod frame;
pub mod indices;
pub mod integer_fit;
pub mod integer_tables;
pub mod integers;
pub mod matrix;
pub mod model_fit;
pub mod moments;
pub mod quantizer;
pub mod quartets;
pub mod table_sets;
pub mod trellis;
pub mod weights;
