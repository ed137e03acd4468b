//! Records of a trace as Arrow: their schema, batches of columns, and the capsules of the PyCapsule interface.
//! It copies each record once, from a row into columns; it never waits for one.

use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::ffi::{FFI_ArrowSchema, to_ffi};
use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::types::UInt8Type;
use arrow_array::{
    Array, ArrayRef, DictionaryArray, RecordBatch, RecordBatchOptions, RecordBatchReader, StringArray, StructArray,
    UInt8Array, UInt64Array,
};
use arrow_buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::exit::ExitKind;
use crate::hook::{Batch, Column, Trace};

use super::exit::class_name;

/// Records of one Arrow batch of a stream, at most.
const ROWS: u64 = 1 << 16;

const STREAM: &CStr = c"arrow_array_stream";
const SCHEMA: &CStr = c"arrow_schema";
const ARRAY: &CStr = c"arrow_array";

/// What is wrong is a mistake here, and no user's: columns of one length, of the schema's types.
fn failed(error: ArrowError) -> PyErr {
    PyRuntimeError::new_err(error.to_string())
}

/// Fields by name: unsigned 64-bit numbers, nullable where an exit may have none; the kind as a word.
pub(super) fn schema(trace: &Trace, names: &[String]) -> SchemaRef {
    let kind = DataType::Dictionary(Box::new(DataType::UInt8), Box::new(DataType::Utf8));
    let fields = trace.columns().iter().zip(names).enumerate().map(|(n, (column, name))| {
        let of = if *column == Column::Kind { kind.clone() } else { DataType::UInt64 };
        let field = Field::new(name, of, !trace.is_sure(n));
        if *column != Column::Time {
            return field;
        }
        let said = [("unit", "ns"), ("clock", "CLOCK_MONOTONIC")];
        field.with_metadata(said.map(|(key, value)| (key.to_owned(), value.to_owned())).into())
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

pub(super) fn schema_capsule<'py>(py: Python<'py>, schema: &SchemaRef) -> PyResult<Bound<'py, PyCapsule>> {
    PyCapsule::new_with_value(py, FFI_ArrowSchema::try_from(&**schema).map_err(failed)?, SCHEMA)
}

/// The names of all kinds of exits, which the numbers in a column of kinds index.
fn kinds() -> ArrayRef {
    Arc::new(StringArray::from_iter_values(ExitKind::ALL.iter().map(|kind| class_name(*kind))))
}

/// The records of `batches` as columns.
fn columns(trace: &Trace, schema: &SchemaRef, batches: &[Batch]) -> Result<RecordBatch, ArrowError> {
    let width = trace.width();
    let rows: Vec<&[AtomicU64]> = batches.iter().flat_map(|batch| batch.words().chunks_exact(width)).collect();
    let word = |row: usize, n: usize| rows[row][n].load(Ordering::Relaxed);
    let arrays = trace.columns().iter().enumerate().map(|(n, column)| -> Result<ArrayRef, ArrowError> {
        let values = (0..rows.len()).map(|row| word(row, n));
        if *column == Column::Kind {
            let keys = UInt8Array::from_iter_values(values.map(|kind| u8::try_from(kind).unwrap_or(0)));
            return Ok(Arc::new(DictionaryArray::<UInt8Type>::try_new(keys, kinds())?));
        }
        let is_there = |row| word(row, width - 1) >> n & 1 != 0;
        let nulls = (!trace.is_sure(n)).then(|| NullBuffer::new(BooleanBuffer::collect_bool(rows.len(), is_there)));
        Ok(Arc::new(UInt64Array::try_new(values.collect::<ScalarBuffer<_>>(), nulls)?))
    });
    let arrays = arrays.collect::<Result<_, ArrowError>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)
}

/// Takes records while it is read, so that a consumer that only wants the schema takes none.
struct Reader {
    trace: Arc<Trace>,
    schema: SchemaRef,
    left: u64,
}

impl Iterator for Reader {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batches = self.trace.read(self.left.min(ROWS));
        let count: u64 = batches.iter().map(Batch::count).sum();
        self.left -= count;
        (count > 0).then(|| columns(&self.trace, &self.schema, &batches))
    }
}

impl RecordBatchReader for Reader {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

/// A stream of the records that wait now, at most `most`.
pub(super) fn stream<'py>(
    py: Python<'py>,
    trace: &Arc<Trace>,
    names: &[String],
    most: u64,
) -> PyResult<Bound<'py, PyCapsule>> {
    let (schema, left) = (schema(trace, names), most.min(trace.waiting()));
    let reader = Box::new(Reader { trace: Arc::clone(trace), schema, left });
    PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(reader), STREAM)
}

/// Records of a trace as Arrow columns: what takes the PyCapsule interface (pyarrow, polars, duckdb, ...) takes it.
///
/// It is a copy: their room in the ring is free again. Made by Trace.arrow_batches().
#[pyclass(frozen, module = "belljar")]
pub struct ArrowBatch(RecordBatch);

impl ArrowBatch {
    /// At most `most` of the records that wait; none if none does.
    pub(super) fn of(trace: &Trace, names: &[String], most: u64) -> PyResult<Option<Self>> {
        let batches = trace.read(most);
        if batches.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self(columns(trace, &schema(trace, names), &batches).map_err(failed)?)))
    }
}

#[pymethods]
impl ArrowBatch {
    /// Its schema, for what takes Arrow.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        schema_capsule(py, &self.0.schema())
    }

    /// Schema and columns, for what takes Arrow. `requested_schema` is a wish, which is not granted.
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
        let _ = requested_schema;
        let (array, _) = to_ffi(&StructArray::from(self.0.clone()).to_data()).map_err(failed)?;
        Ok((schema_capsule(py, &self.0.schema())?, PyCapsule::new_with_value(py, array, ARRAY)?))
    }

    /// Itself as a stream of one batch, for what takes Arrow.
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let _ = requested_schema;
        let one = arrow_array::RecordBatchIterator::new([Ok(self.0.clone())], self.0.schema());
        PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(Box::new(one)), STREAM)
    }

    /// How many records it holds.
    fn __len__(&self) -> usize {
        self.0.num_rows()
    }

    fn __repr__(&self) -> String {
        let schema = self.0.schema();
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        format!("<ArrowBatch of {}: {} records>", names.join(", "), self.0.num_rows())
    }
}
