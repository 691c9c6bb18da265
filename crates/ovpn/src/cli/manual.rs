//! The manual page of the tools that drive a data plane by hand: `ovpn man cli`.

use std::fmt::Write as _;

use super::grammar;
use super::windows;

/// The page, in roff.
pub(crate) fn man_page(version: &str) -> String {
    let mut out = format!(
        ".TH OVPN\\-CLI 8 \"\" \"ovpn {version}\" \"System administration\"\n\
         .SH NAME\novpn\\-cli, ovpn\\-dco\\-cli \\- drive an OpenVPN data plane by hand\n\
         .SH SYNOPSIS\n.B ovpn cli\n.I COMMAND\n.I IFACE\n[\\fIARGUMENT\\fR]...\n.br\n\
         .B ovpn engine\n.I IFACE\n[\\-\\-mode p2p|mp] [\\-\\-foreground]\n.br\n\
         .B ovpn dco\\-cli\nudp|tcp i4|i6 \\fILOCAL LPORT REMOTE RPORT VPNIP MASK GATEWAY\\fR [\\fIKEYFILE\\fR \
         [\\fIDIRECTION\\fR]]\n\
         .SH DESCRIPTION\nThe program called \\fBovpn\\-cli\\fR or \\fBovpn\\-dco\\-cli\\fR (a link to \\fBovpn\\fR suffices) \
         is the same as these words.\n.PP\n\\fBovpn cli\\fR speaks the grammar of the kernel's selftest tool, to an engine \
         process or to the kernel's driver. A command that opens a socket goes into the background when it has succeeded and \
         keeps the socket open; killing it closes the socket.\n\
         .SH COMMANDS\n"
    );
    for (usage, help) in grammar::commands() {
        let _ = writeln!(out, ".TP\n.B {}\n{}.", roff(usage), roff(help));
    }
    let _ = write!(
        out,
        ".SH ENGINE\n\\fBovpn engine\\fR makes the device and serves it until SIGTERM, or until \\fBdel_iface\\fR. \
         \\fBnew_iface\\fR starts one. Its socket is /run/ovpn/\\fINAMESPACE\\fR/\\fIIFACE\\fR.sock.\n\
         .SH WINDOWS TOOL\n\\fBovpn dco\\-cli\\fR speaks the grammar of the Windows driver's tool: one end of a point\\-to\\-point \
         link, with the engine in this very process.\n.PP\n.nf\n{}\n.fi\n\
         .SH FILES\n.TP\nkey file\nBase64 of at least 72 bytes: key A (32), key B (32), nonce tail (8). key_dir 0 encrypts with A, \
         1 with B.\n.TP\npeers file, UDP\nRows of peer_id, tx_id, laddr, lport, raddr, rport, vpnip.\n.TP\npeers file, TCP\nRows of \
         peer_id, tx_id, vpnip.\n\
         .SH ENVIRONMENT\n.TP\n.B OVPN_DRIVER\n\\fBengine\\fR (default) or \\fBkernel\\fR: who carries the data.\n\
         .SH EXIT STATUS\n0; the negative errno in eight bits; 255 for a wrong command line. \\fBovpn dco\\-cli\\fR: 0 or 1.\n\
         .SH SEE ALSO\n.BR ovpn (8)\n",
        roff(windows::USAGE)
    );
    out
}

/// Escapes backslashes and hyphens.
fn roff(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_the_manual() {
        let page = man_page("1.2.3");
        for (usage, help) in grammar::commands() {
            assert!(!help.is_empty() && !help.ends_with('.'), "{usage}");
            assert!(page.contains(&format!(".B {}\n", roff(usage))), "{usage}");
        }
        assert!(page.starts_with(".TH OVPN\\-CLI 8 \"\" \"ovpn 1.2.3\""));
        let stray = page.lines().find(|line| line.starts_with('\'') || line.contains("\\ "));
        assert_eq!(stray, None, "a control character by accident");
    }
}
