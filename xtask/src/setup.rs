//! Sets up whatever a chore needs and the machine lacks.

mod browser;
mod component;
pub(crate) mod debian;
mod engine;
mod images;
mod local_image;
mod python;
mod wasm;

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::context::Context;
use crate::report;

pub(crate) use browser::VARIABLE as BROWSER;
pub(crate) use component::Component;
pub(crate) use engine::docker;
pub(crate) use images::names as image_names;
pub(crate) use python::Componentizer;
pub(crate) use wasm::Toolchain;

/// What it takes to compile a policy.
pub(crate) struct PolicyTools {
    pub(crate) toolchain: Toolchain,
    pub(crate) component: Component,
}

/// The tools that compile a policy to a WebAssembly component.
pub(crate) fn policy_tools(context: &Context) -> Result<PolicyTools> {
    std::fs::create_dir_all(context.tools())
        .with_context(|| format!("cannot create {}", context.tools().display()))?;
    let mut toolchain = None;
    report::step("wasm target", || {
        let (found, outcome) = wasm::set_up()?;
        toolchain = Some(found);
        Ok(outcome)
    })?;
    let mut component = None;
    report::step("cargo-component", || {
        let (found, outcome) = component::set_up(context)?;
        component = Some(found);
        Ok(outcome)
    })?;
    Ok(PolicyTools {
        toolchain: toolchain.context("no toolchain was found")?,
        component: component.context("no cargo-component was found")?,
    })
}

/// The tool that makes a component of the policy in Python.
pub(crate) fn python_tools(context: &Context) -> Result<Componentizer> {
    std::fs::create_dir_all(context.tools())
        .with_context(|| format!("cannot create {}", context.tools().display()))?;
    let mut tool = None;
    report::step("componentize-py", || {
        let (found, outcome) = python::set_up(context)?;
        tool = Some(found);
        Ok(outcome)
    })?;
    tool.context("no componentize-py was found")
}

/// A Docker Engine that answers, with the images that the caches run.
pub(crate) fn engines(context: &Context) -> Result<()> {
    report::step("Docker Engine", engine::set_up)?;
    images::set_up(context)
}

/// A browser that opens the report's page for the tests.
pub(crate) fn browser() -> Result<PathBuf> {
    let mut browser = None;
    report::step("browser", || browser::set_up(&mut browser))?;
    browser.context("no browser was found")
}
