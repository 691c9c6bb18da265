//! Scripts, plugins, environment.

use super::Builder;
use super::arguments::{Bad, Opt, short};
use crate::diagnostic::Class;
use crate::model::ScriptSecurity;
use crate::table::Contexts;

pub(super) fn apply(b: &mut Builder, o: &mut Opt<'_>) -> Result<bool, Bad> {
    let s = &mut b.config.scripts;
    match o.name() {
        "script-security" => {
            s.security = o.word(
                0,
                &[
                    ("0", ScriptSecurity::Nothing),
                    ("1", ScriptSecurity::BuiltIn),
                    ("2", ScriptSecurity::Scripts),
                    ("3", ScriptSecurity::Passwords),
                ],
            )?;
            if o.count() > 1 {
                o.say(
                    Class::Ignored,
                    "`script-security` takes one number; the second word has no effect",
                    "remove it",
                );
            }
        }
        "up" => s.up = o.command(0)?,
        "down" => s.down = o.command(0)?,
        "down-pre" => s.down_pre = true,
        "up-delay" => s.up_delay = true,
        "up-restart" => s.up_restart = true,
        "route-up" => s.route_up = o.command(0)?,
        "route-pre-down" => s.route_pre_down = o.command(0)?,
        "ipchange" => s.ipchange = o.command(0)?,
        "echo" | "parameter" => s.echo.push(o.written()),
        "setenv" => setenv(b, o)?,
        "setenv-safe" => {
            let name = o.text(0)?;
            s.environment.push((format!("OPENVPN_{name}"), o.get(1).unwrap_or_default().to_owned()));
        }
        "ignore-unknown-option" => {}
        "plugin" => plugin(b, o)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn setenv(b: &mut Builder, o: &mut Opt<'_>) -> Result<(), Bad> {
    let name = o.text(0)?;
    let value = o.get(1).unwrap_or_default().to_owned();
    match name.as_str() {
        "FORWARD_COMPATIBLE" | "opt" => {}
        "CLIENT_CERT" => b.config.tls.no_client_cert = value == "0",
        "REMOTE_RANDOM_HOSTNAME" => b.config.transport.remote_random_hostname = true,
        "PUSH_PEER_INFO" => b.config.tls.push_peer_info = true,
        "SERVER_POLL_TIMEOUT" => b.entry.timeout = o.seconds(1, 1)?,
        "GENERIC_CONFIG" => {
            let message = "this profile is a generic one that the provider does not mean to be used as it is";
            return Err(o.bad(0, message, "get the profile made for you"));
        }
        _ => {
            if b.context.contains(Contexts::PUSHED) {
                return Err(o.bad(
                    0,
                    "a server cannot set variables with `setenv`",
                    "it can with `setenv-safe`",
                ));
            }
            if name.starts_with("IV_") || name.starts_with("UV_") {
                b.config.scripts.peer_info.push((name.clone(), value.clone()));
            }
            b.config.scripts.environment.push((name, value));
        }
    }
    Ok(())
}

/// Stock loads C modules; here scripts and the management interface do their work. A server that leaves an authentication
/// plugin out would let everyone in, so nothing starts until the line is replaced.
fn plugin(b: &mut Builder, o: &mut Opt<'_>) -> Result<(), Bad> {
    let path = o.text(0)?;
    let file = path.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
    let rest = o.args().iter().skip(1).map(|a| a.text.as_str()).collect::<Vec<_>>();
    if file.contains("down-root") {
        o.say(
            Class::Ignored,
            "the plugin down-root is not needed: `down` keeps the rights it needs",
            match rest.first() {
                Some(command) => format!("write `down {}` instead", crate::lexer::quote(command)),
                None => "remove the line".to_owned(),
            },
        );
        return Ok(());
    }
    b.flags.plugin = true;
    let help = if file.contains("auth-pam") {
        let service = rest.first().copied().unwrap_or("openvpn");
        format!(
            "replace it with `script-security 2` and `auth-user-pass-verify \"/etc/openvpn/check-pam {service}\" via-file`, a \
             script that gives the two lines of its file to pamtester"
        )
    } else if file.contains("auth-ldap") {
        "replace it with `script-security 2` and `auth-user-pass-verify /etc/openvpn/check-ldap via-file`, a script that calls \
         ldapwhoami with the two lines of its file"
            .to_owned()
    } else if file.contains("radius") {
        "replace it with `script-security 2` and `auth-user-pass-verify /etc/openvpn/check-radius via-file`, a script that calls \
         radtest with the two lines of its file"
            .to_owned()
    } else {
        "replace it with `auth-user-pass-verify`, `client-connect` or another script option, or with the management interface"
            .to_owned()
    };
    o.say(
        Class::Incomplete,
        format!("the plugin {} cannot be loaded: nothing starts with this line", short(&file)),
        help,
    );
    Ok(())
}
