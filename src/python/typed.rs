//! Values of classes that are written in Python, under their names for the type stubs. It never makes a class.

use std::convert::Infallible;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

/// For each class: a wrapper, and how to call the class.
macro_rules! python_classes {
    ($($name:ident $module:literal;)+) => {
        $(
            #[allow(clippy::upper_case_acronyms)] // the manual's names
            #[doc = concat!("An instance of `", $module, ".", stringify!($name), "`.")]
            pub struct $name<'py>(Bound<'py, PyAny>);

            impl<'py> $name<'py> {
                /// What the class (or its constructor `via`) makes of `arguments`.
                pub fn of(
                    py: Python<'py>, via: &str, arguments: impl pyo3::call::PyCallArgs<'py>,
                ) -> PyResult<Self> {
                    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
                    let class = CLASS.import(py, $module, stringify!($name))?;
                    class.getattr(via)?.call1(arguments).map(Self)
                }
            }

            impl<'py> IntoPyObject<'py> for $name<'py> {
                type Target = PyAny;
                type Output = Bound<'py, PyAny>;
                type Error = Infallible;

                #[cfg(feature = "stubs")]
                const OUTPUT_TYPE: pyo3::inspect::PyStaticExpr = pyo3::inspect::PyStaticExpr::Attribute {
                    value: &pyo3::inspect::PyStaticExpr::Name { id: $module },
                    attr: stringify!($name),
                };

                fn into_pyobject(self, _py: Python<'py>) -> Result<Self::Output, Self::Error> {
                    Ok(self.0)
                }
            }
        )+
    };
}

/// For each: a wrapper of what Python's own classes are, and its type hint.
macro_rules! python_types {
    ($($name:ident $doc:literal $hint:expr;)+) => {
        $(
            #[doc = $doc]
            pub struct $name<'py>(pub Bound<'py, PyAny>);

            impl<'py> IntoPyObject<'py> for $name<'py> {
                type Target = PyAny;
                type Output = Bound<'py, PyAny>;
                type Error = Infallible;

                #[cfg(feature = "stubs")]
                const OUTPUT_TYPE: pyo3::inspect::PyStaticExpr = {
                    #[allow(unused_imports)] // not every hint is made of all three
                    use pyo3::{type_hint_identifier, type_hint_subscript, type_hint_union};
                    $hint
                };

                fn into_pyobject(self, _py: Python<'py>) -> Result<Self::Output, Self::Error> {
                    Ok(self.0)
                }
            }
        )+
    };
}

python_types! {
    Int "An integer of any width."
        type_hint_union!(type_hint_identifier!("builtins", "int"));
    Ints "An iterator of integers."
        type_hint_subscript!(type_hint_identifier!("collections.abc", "Iterator"), type_hint_identifier!("builtins", "int"));
    NumberSet "A frozen set of integers."
        type_hint_subscript!(type_hint_identifier!("builtins", "frozenset"), type_hint_identifier!("builtins", "int"));
    Devices "A tuple of devices."
        type_hint_subscript!(
            type_hint_identifier!("builtins", "tuple"),
            type_hint_identifier!("belljar.device", "Device"),
            pyo3::inspect::PyStaticExpr::Constant { value: pyo3::inspect::PyStaticConstant::Ellipsis }
        );
    Counts "An asynchronous iterator of integers."
        type_hint_subscript!(
            type_hint_identifier!("collections.abc", "AsyncIterator"),
            type_hint_identifier!("builtins", "int")
        );
    Count "What is awaited for an integer."
        type_hint_subscript!(
            type_hint_identifier!("collections.abc", "Generator"),
            type_hint_identifier!("typing", "Any"),
            type_hint_identifier!("typing", "Any"),
            type_hint_identifier!("builtins", "int")
        );
    Names "An iterator of names."
        type_hint_subscript!(type_hint_identifier!("collections.abc", "Iterator"), type_hint_identifier!("builtins", "str"));
    Keys "An iterator of names, and of numbers that have none."
        type_hint_subscript!(
            type_hint_identifier!("collections.abc", "Iterator"),
            type_hint_union!(type_hint_identifier!("builtins", "str"), type_hint_identifier!("builtins", "int"))
        );
}

python_classes! {
    Cpuid "belljar.cpuid";
    CR0 "belljar.bits";
    CR4 "belljar.bits";
    EFER "belljar.bits";
    RFLAGS "belljar.bits";
    DR6 "belljar.bits";
    DR7 "belljar.bits";
    XCR0 "belljar.bits";
    DescriptorTable "belljar.descriptor";
    PageTableEntry "belljar.page_entry";
    Events "belljar.events";
    State "belljar.state";
    Stats "belljar.stats";
    Profile "belljar.profile";
    Trace "belljar.trace";
    Mappings "belljar.mappings";
    Linux "belljar.linux";
    Session "belljar.volatility";
}
