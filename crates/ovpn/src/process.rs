//! A run of a mode as a process: configuration, log, background, signals, exit code; again after SIGHUP.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use ovpn_config::model::{Log, LogFormat, Role};
use ovpn_config::{Config, Diagnostic, Sources};

use ovpn_sys::background::{self, Background, Split};
use tokio::runtime::Runtime;

use crate::command_line::{self, Invocation, Wanted};
use crate::config_files::Files;
use crate::logging::{self, Style, Target};
use crate::outcome::{Fatal, Outcome};
use crate::setup::Setup;
use crate::signal::Signals;
use crate::{
    arguments, check_files, client, management, p2p, privileges, sd_notify, server, status, version,
};

/// Does what the command line asks for; the process ends with the returned code.
pub(crate) fn run(words: &[String]) -> ExitCode {
    match command_line::parse(words) {
        Invocation::Version => {
            print!("{}", version::text());
            ExitCode::SUCCESS
        }
        Invocation::Help(text) => {
            // A pager that was closed early is no error.
            let _ = std::io::stdout().lock().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Invocation::Wrong(sentence) => {
            eprintln!("ovpn: {}", arguments::plain(&sentence));
            ExitCode::from(2)
        }
        Invocation::Run { wanted, words, file } => run_mode(wanted, &words, file),
    }
}

fn run_mode(wanted: Wanted, words: &[String], file: Option<String>) -> ExitCode {
    logging::start();
    let started = SystemTime::now();
    let start = std::env::current_dir().ok();
    let mut background = None;
    let mut first = true;
    loop {
        let result = load(wanted, words, first).and_then(|config| {
            if let Some(directory) = &config.process.directory {
                // Scripts and key files are relative to it.
                std::env::set_current_dir(directory)
                    .map_err(|error| Fatal(format!("--cd {directory}: {error}")))?;
            }
            if first {
                match prepare(&config)? {
                    Prepared::Parent(status) => return Ok(Step::Leave(status)),
                    Prepared::Here(here) => background = here,
                }
                first = false;
            }
            let setup = Setup { config, file: file.clone(), started, management: None };
            run_once(setup, &mut background)
        });
        match result {
            Ok(Step::Leave(code)) => return ExitCode::from(code),
            Ok(Step::Again) => {
                // The configuration is read from where it was first; in a `chroot` that is no more.
                if let Some(start) = &start {
                    let _ = std::env::set_current_dir(start);
                }
            }
            Err(fatal) => {
                tracing::error!("{}", arguments::plain(&fatal.to_string()));
                tracing::error!("Exiting due to fatal error");
                sd_notify::failed(&fatal.to_string());
                if let Some(background) = background.take() {
                    let _ = background.report(1);
                }
                return ExitCode::FAILURE;
            }
        }
    }
}

enum Step {
    Leave(u8),
    Again,
}

enum Prepared {
    /// The process that was started: it ends with this status.
    Parent(u8),
    /// The one that works.
    Here(Option<Background>),
}

/// `first`: nobody has said yet where the log goes.
fn load(wanted: Wanted, words: &[String], first: bool) -> Result<Config, Fatal> {
    let loaded = ovpn_config::load_command_line(words, &Files);
    let process = &loaded.config.process;
    logging::set_verb(process.verb);
    logging::set_mute(process.mute);
    if first {
        let early = if matches!(process.log, Log::Stderr) { Target::Stderr } else { Target::Stdout };
        let _ = logging::set_output(&early, style(&loaded.config));
    }
    let obstacles: Vec<String> =
        loaded.obstacles().map(|diagnostic| obstacle(diagnostic, &loaded.sources)).collect();
    for diagnostic in &loaded.diagnostics {
        if diagnostic.class.prevents_start() {
            continue;
        }
        let line = diagnostic.one_line(&loaded.sources);
        match diagnostic.class {
            ovpn_config::Class::Advice | ovpn_config::Class::Ignored => tracing::info!("NOTE: {line}"),
            _ => tracing::warn!("WARNING: {line}"),
        }
    }
    if obstacles.is_empty() {
        // What cannot be read at all fails later, in the words of its option.
        for diagnostic in check_files::look(&loaded.config, crate::pki::now()) {
            if !diagnostic.message.starts_with("cannot read") {
                tracing::warn!("WARNING: {}", diagnostic.one_line(&loaded.sources));
            }
        }
    }
    if let Some((last, before)) = obstacles.split_last() {
        for obstacle in before {
            tracing::error!("{obstacle}");
        }
        return Err(Fatal(last.clone()));
    }
    if !wanted.fits(loaded.config.role) {
        return Err(Fatal(format!(
            "`ovpn {}` was asked for, but the configuration is of another mode; use `ovpn --config FILE` to let it decide",
            wanted.word()
        )));
    }
    Ok(loaded.config)
}

/// What prevents the start: in stock's words where it has some, and what to do about it.
fn obstacle(diagnostic: &Diagnostic, sources: &Sources) -> String {
    match &diagnostic.stock {
        Some(stock) if diagnostic.help.is_empty() => stock.clone(),
        Some(stock) => format!("{stock}; {}", diagnostic.help),
        None => format!("Options error: {}", diagnostic.one_line(sources)),
    }
}

/// How lines of the log look.
fn style(config: &Config) -> Style {
    let process = &config.process;
    Style {
        suppress_timestamps: process.suppress_timestamps,
        machine_readable: process.machine_readable_output,
        json: process.log_format == LogFormat::Json,
        errors_to_stderr: process.errors_to_stderr,
    }
}

/// Background, log, pid file, working directory, priority: once, while there is one thread.
fn prepare(config: &Config) -> Result<Prepared, Fatal> {
    let process = &config.process;
    let mut background = None;
    if process.daemon.is_some() && !sd_notify::is_supervised() {
        match background::split().map_err(|error| Fatal::new("going to the background", error))? {
            Split::Waiting(waiting) => return Ok(Prepared::Parent(waiting.status())),
            Split::Background(here) => background = Some(here),
        }
    }
    let name = || {
        process.daemon.as_ref().and_then(|daemon| daemon.name.clone()).unwrap_or_else(|| "openvpn".to_owned())
    };
    let target = match &process.log {
        Log::File(path) => Target::File { path: path.into(), append: false },
        Log::Append(path) => Target::File { path: path.into(), append: true },
        Log::Syslog(program) => Target::Syslog(program.clone().unwrap_or_else(name)),
        Log::Journald => Target::Journal(name()),
        Log::Stdout | Log::Stderr if process.daemon.is_some() => Target::Syslog(name()),
        Log::Stdout => Target::Stdout,
        Log::Stderr => Target::Stderr,
    };
    if let Err(error) = logging::set_output(&target, style(config)) {
        match &target {
            Target::File { path, .. } => {
                return Err(Fatal(format!("--log {}: {error}", path.display())));
            }
            _ => tracing::warn!("the system log cannot be reached ({error}); logging to standard output"),
        }
    }
    if let Some(path) = &process.pid_file {
        std::fs::write(path, format!("{}\n", std::process::id()))
            .map_err(|error| Fatal(format!("--writepid {path}: {error}")))?;
    }
    if let Some(nice) = process.nice
        && let Err(error) = rustix::process::nice(nice)
    {
        tracing::warn!("--nice {nice}: {error}");
    }
    tracing::info!("{}", version::title());
    tracing::info!("{}", version::libraries());
    privileges::lock_memory(config)?;
    let files = ovpn_sys::privileges::raise_open_files();
    tracing::debug!("{files} files may be open at once");
    Ok(Prepared::Here(background))
}

/// How long whatever cannot be interrupted may hold up the end: a resolver's thread.
const PATIENCE: Duration = Duration::from_secs(1);

/// Ends all tasks and waits until what they held is given back: the kernel's device goes with the last of them, and
/// stays if the process is gone before.
fn end(runtime: Runtime) {
    runtime.shutdown_timeout(PATIENCE);
}

fn run_once(mut setup: Setup, background: &mut Option<Background>) -> Result<Step, Fatal> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Fatal::new("the runtime cannot start", error))?;
    let config = setup.config.clone();
    let outcome = runtime.block_on(async {
        let mut signals = Signals::new().map_err(|error| Fatal::new("signals", error))?;
        if let Some(background) = background.take() {
            background.report(0).map_err(|error| Fatal::new("going to the background", error))?;
        }
        setup.management = management::start(&setup.config, signals.thrower()).await?;
        let _status = status::start(&setup)?;
        match setup.config.role {
            Role::Client => client::run(&setup, &mut signals).await,
            Role::Server => server::run(&setup, &mut signals).await,
            Role::Peer(_) => p2p::run(&setup, &mut signals).await,
        }
    })?;
    management::remove_socket(&config);
    end(runtime);
    match outcome {
        Outcome::Exit(code) => {
            if let Some(path) = &setup.config.process.pid_file {
                let _ = std::fs::remove_file(path);
            }
            Ok(Step::Leave(code))
        }
        Outcome::Reload => Ok(Step::Again),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Whoever holds the data plane last, be it a task that never ends.
    #[test]
    fn what_tasks_hold_is_given_back_at_the_end() {
        for _ in 0..200 {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
            let held = Arc::new(());
            let task = Arc::clone(&held);
            runtime.spawn(async move {
                std::future::pending::<()>().await;
                drop(task);
            });
            end(runtime);
            assert_eq!(Arc::strong_count(&held), 1);
        }
    }
}
