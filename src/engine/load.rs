//! Loading of an engine from its options: models, tokenizer, heads and drafters.
//!
//! Several engines can share the models and heads that they have in common.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow};

use super::cost_cache::CostCache;
use super::drafters::DrafterBuilder;
use super::error::SessionError;
use super::{EngineOptions, MAX_BUDGET, RunInfo, Session, Vocabulary};
use crate::draft::ShapeKind;
use crate::model::device::DeviceChoice;
use crate::model::load::Model;
use crate::model::tokenizer::same_vocabulary;
use crate::model::{Head, HeadForm};
use crate::registry::{ChecksumResult, Registry, RegistryModel, cache_folder};
use crate::theory::cost::CostCurve;
use crate::theory::speed::ModelWork;
use crate::tree::TokenId;

/// Minimum cache capacity in positions, limited by the model's context.
///
/// It grows with the prompts and the requested number of tokens.
const MIN_CAPACITY: usize = 8192;

/// Encoder of a prompt into tokens, chat template included.
pub(crate) type PromptEncoder = Box<dyn Fn(&str) -> Result<Vec<TokenId>, String> + Send>;

/// Session with everything needed to start texts in it.
pub(crate) struct Engine {
    /// Session without a text.
    pub session: Session,
    /// Encoder of prompts into tokens.
    pub tokens: PromptEncoder,
    /// Description of the run, without the prompts.
    pub info: RunInfo,
    /// Cache file of the pass cost; `None` disables caching.
    pub(super) cost_cache: Option<CostCache>,
    /// Work per token and pass of the target, for the roofline model.
    pub work: ModelWork,
}

impl Engine {
    /// Measures the pass cost after the current text and caches it for later runs.
    ///
    /// See [`Session::measure_cost`]. Returns `None` if the context has no room for it, or the
    /// machine was too busy for plausible times.
    ///
    /// # Errors
    /// If a forward fails.
    pub fn measure_cost(&mut self) -> Result<Option<CostCurve>, SessionError> {
        let cost = self.session.measure_cost()?;
        self.keep_cost();
        Ok(cost)
    }

    /// Caches the current pass cost for later runs, if it is known and plausible.
    pub(super) fn keep_cost(&self) {
        if let (Some(cache), Some(cost)) =
            (&self.cost_cache, self.session.cost().filter(|cost| cost.is_plausible()))
        {
            cache.keep(cost);
        }
    }
}

/// Downloads missing models, loads them and builds the drafters.
///
/// `report` receives a description of the present operation and the fraction done, if known.
///
/// # Errors
/// If a model can't be obtained or loaded, the draft model does not fit, or the settings of the
/// first step are out of range.
pub(crate) fn load(
    options: &EngineOptions,
    report: &mut dyn FnMut(&str, Option<f64>),
) -> anyhow::Result<Engine> {
    Loader::new()?.engine(options, report)
}

/// Loads several engines that share the models and heads they have in common.
///
/// # Errors
/// As [`load`].
pub(crate) fn load_each(
    all: &[EngineOptions],
    report: &mut dyn FnMut(&str, Option<f64>),
) -> anyhow::Result<Vec<Engine>> {
    let mut loader = Loader::new()?;
    all.iter().map(|options| loader.engine(options, report)).collect()
}

/// Loader that keeps models and heads, so that engines share them.
struct Loader {
    registry: Registry,
    models: HashMap<(String, String, Option<usize>), Arc<Model>>,
    heads: HashMap<(PathBuf, HeadForm, Option<PathBuf>), Arc<Head>>,
    /// SHA-256 by path, of files outside the registry that had to be hashed.
    digests: HashMap<PathBuf, String>,
}

impl Loader {
    fn new() -> anyhow::Result<Loader> {
        Ok(Loader {
            registry: Registry::load()?,
            models: HashMap::new(),
            heads: HashMap::new(),
            digests: HashMap::new(),
        })
    }

    fn engine(
        &mut self,
        options: &EngineOptions,
        report: &mut dyn FnMut(&str, Option<f64>),
    ) -> anyhow::Result<Engine> {
        let found = self.registry.find(Some(&options.model))?;
        let model = self.model(&options.model, options, report)?;
        let config = model.config().clone();

        let prompts: Vec<usize> = (options.prompts.iter())
            .filter_map(|prompt| model.prompt_tokens(&prompt.text, options.raw).ok())
            .map(|tokens| tokens.len())
            .collect();
        let longest = prompts.into_iter().max().unwrap_or(0);
        let needed = longest.saturating_add(options.max_tokens).saturating_add(MAX_BUDGET);
        let capacity = needed.max(MIN_CAPACITY).min(config.context);

        let second = match &options.draft_model {
            Some(name) => {
                let second = self.model(name, options, report)?;
                same_vocabulary(model.tokenizer(), second.tokenizer())
                    .map_err(|why| anyhow!("{why}"))
                    .with_context(|| format!("draft model {name}"))?;
                Some((name.as_str(), second))
            }
            None => None,
        };
        let second = second.as_ref().map(|(name, second)| (*name, &**second));
        let digest = self.digest(&found)?;
        let head = self.head(HeadForm::Eagle, options.head.as_ref(), digest.as_deref(), &model)?;
        let adapter = match options.exit_layers {
            Some(_) => None,
            None => {
                self.head(HeadForm::Adapter, options.adapter.as_ref(), digest.as_deref(), &model)?
            }
        };
        let makers = DrafterBuilder {
            options,
            target: &config,
            second,
            head: head.as_deref(),
            adapter: adapter.as_deref(),
            capacity,
        };
        let drafters = makers.build_all()?;

        let tokenizer = model.tokenizer();
        let vocabulary = Vocabulary::new(tokenizer.token_bytes(), tokenizer.stop_tokens().to_vec())
            .with_display_names(tokenizer.control_tokens());
        let vocabulary = Arc::new(vocabulary);
        let mut target = model.decoder(capacity)?;
        if let Some(head) = &head {
            target.keep_hidden(&head.info().source_layers);
        }
        let mut session = Session::new(target, drafters, vocabulary, options.settings.clone())?;
        let (drafters, drafter_costs) =
            session.drafters().map(|info| (info.kind.clone(), info.cost.clone())).unzip();
        let info = RunInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            model: found.name().to_owned(),
            quantisation: model.quantization(),
            sha256: digest,
            device: model.device_name(),
            context: session.context(),
            // Oracle searches run on a second context of the target.
            cache_bytes: 2 * config.cache_bytes(capacity)
                + second.map_or(0, |(_, second)| {
                    let own = second.config();
                    own.cache_bytes(capacity.min(own.context))
                }),
            vocabulary: config.vocab,
            drafters,
            drafter_costs,
            shapes: ShapeKind::ALL.map(|kind| kind.with_widths(options.fixed)).to_vec(),
            prompts: Vec::new(),
        };
        let identity = info.sha256.clone().unwrap_or_else(|| model.path().display().to_string());
        let cost_cache =
            cache_folder().ok().map(|cache| CostCache::new(&cache, &identity, &info.device));
        if let Some(cost) = cost_cache.as_ref().and_then(CostCache::read) {
            session.set_cost(cost);
        }
        let work = ModelWork {
            bytes: model.weight_bytes() as f64,
            flops_per_token: 2.0 * config.multiplied_weights() as f64,
        };
        let (raw, format) = (options.raw, options.error_format);
        let tokens: PromptEncoder =
            Box::new(move |text| model.prompt_tokens(text, raw).map_err(|e| (format.0)(&e.into())));
        Ok(Engine { session, tokens, info, cost_cache, work })
    }

    /// Returns the model called `name`, loading it on first use.
    fn model(
        &mut self,
        name: &str,
        options: &EngineOptions,
        report: &mut dyn FnMut(&str, Option<f64>),
    ) -> anyhow::Result<Arc<Model>> {
        let key = (name.to_owned(), options.device.clone(), options.threads);
        if let Some(model) = self.models.get(&key) {
            return Ok(Arc::clone(model));
        }
        let found = self.registry.find(Some(name))?;
        let mut model = open(&found, options, report)?;
        if let Some(template) = found.chat_template() {
            model.set_chat_template(template);
        }
        let model = Arc::new(model);
        self.models.insert(key, Arc::clone(&model));
        Ok(model)
    }

    /// Returns the requested head, or the one that ships with the program for this model.
    ///
    /// `None` if there is neither.
    fn head(
        &mut self,
        form: HeadForm,
        requested: Option<&PathBuf>,
        sha256: Option<&str>,
        model: &Model,
    ) -> anyhow::Result<Option<Arc<Head>>> {
        let key = (model.path().to_owned(), form, requested.cloned());
        if let Some(head) = self.heads.get(&key) {
            return Ok(Some(Arc::clone(head)));
        }
        let head = match requested {
            Some(path) => Some(Head::open(path, form, model)?),
            None => Head::load_built_in(sha256, form, model)?,
        };
        let head = head.map(Arc::new);
        self.heads.extend(head.iter().map(|head| (key.clone(), Arc::clone(head))));
        Ok(head)
    }

    /// Returns the SHA-256 of a model's file, if it can be a listed one.
    ///
    /// The registry knows it for listed models. A file given by its path is hashed only if it has
    /// the size of a listed one, and so may be the same.
    fn digest(&mut self, found: &RegistryModel) -> anyhow::Result<Option<String>> {
        if let Some(sha256) = found.sha256() {
            return Ok(Some(sha256.to_owned()));
        }
        let Some(path) = found.path() else { return Ok(None) };
        if let Some(sha256) = self.digests.get(&path) {
            return Ok(Some(sha256.clone()));
        }
        let bytes = std::fs::metadata(&path).ok().map(|file| file.len());
        if bytes.is_none() || !self.registry.all().any(|listed| listed.bytes() == bytes) {
            return Ok(None);
        }
        Ok(match found.verify(&mut |_| {})? {
            ChecksumResult::NoChecksum { sha256 } | ChecksumResult::Right { sha256 } => {
                self.digests.insert(path, sha256.clone());
                Some(sha256)
            }
            ChecksumResult::Absent | ChecksumResult::Differing { .. } => None,
        })
    }
}

/// Downloads a model if it is missing, and loads it.
fn open(
    found: &RegistryModel,
    options: &EngineOptions,
    report: &mut dyn FnMut(&str, Option<f64>),
) -> anyhow::Result<Model> {
    let device: DeviceChoice = options.device.parse().map_err(|why: String| anyhow!(why))?;
    // Reported in steps of a thousandth, since a download reports far more often than useful.
    let mut last = None;
    let path = found.ensure(&mut |progress| {
        let now = Some((progress.what.clone(), progress.done.map(|done| (done * 1000.0) as i64)));
        if now != last {
            report(&progress.what, progress.done);
            last = now;
        }
    })?;
    report(&format!("loading {}", found.name()), None);
    Ok(Model::open(&path, device, options.threads)?)
}
