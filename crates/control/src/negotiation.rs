//! Ciphers and protocol features, in the three roles.
//!
//! | style | who decides |
//! |---|---|
//! | pull | the client announces, the server chooses and pushes, the client checks |
//! | point-to-point | both announce, both compute the same result |
//!
//! Source: OpenVPN, "Negotiation of ciphers and protocol features".

use ovpn_crypto::key2::{P2P_FALLBACK_PEER_ID, TlsRole, p2p_peer_id};
use ovpn_wire::key_method::options_cipher;
use ovpn_wire::peer_info::{IvProto, PeerInfo};

use crate::exchange::RemoteHello;
use crate::params::{Features, SessionParams};
use crate::{Cipher, DataFormat, Failure, FailureKind, Negotiated};

/// The 24-bit peer id that means "none".
const NO_PEER_ID: u32 = 0xFF_FFFF;

/// What a pulling client announces.
pub(crate) fn client_proto(features: &Features) -> IvProto {
    let mut proto = IvProto::DATA_V2
        | IvProto::REQUEST_PUSH
        | IvProto::AUTH_PENDING_KEYWORDS
        | IvProto::AUTH_FAILED_TEMP
        | IvProto::DNS_OPTION
        | shared_proto(features);
    if features.push_update {
        proto |= IvProto::PUSH_UPDATE;
    }
    proto
}

/// What a point-to-point peer announces.
pub(crate) fn p2p_proto(features: &Features) -> IvProto {
    IvProto::DATA_V2 | IvProto::P2P_NCP | shared_proto(features)
}

fn shared_proto(features: &Features) -> IvProto {
    let mut proto = IvProto::NONE;
    for (on, bit) in [
        (features.tls_ekm, IvProto::TLS_KEY_EXPORT),
        (features.cc_exit, IvProto::CC_EXIT),
        (features.dyn_tls_crypt, IvProto::DYNAMIC_TLS_CRYPT),
        (features.epoch, IvProto::EPOCH_DATA),
    ] {
        if on {
            proto |= bit;
        }
    }
    proto
}

/// The peer's ciphers that we know, in its order.
fn offered(peer_info: &PeerInfo) -> Vec<Cipher> {
    peer_info.ciphers().iter().filter_map(|name| name.parse().ok()).collect()
}

/// A server's choice for one client.
#[derive(Debug)]
pub(crate) struct ServerChoice {
    pub(crate) negotiated: Negotiated,
    /// Options to push after the caller's own.
    pub(crate) push: Vec<String>,
}

/// What a server chooses for a client; an error is the reason for AUTH_FAILED.
pub(crate) fn server(
    params: &SessionParams,
    force_tls_ekm: bool,
    ciphers: &[Cipher],
    peer_id: u32,
    tun_mtu: u16,
    client: &RemoteHello,
) -> Result<ServerChoice, &'static str> {
    let features = &params.features;
    let info = &client.peer_info;
    let proto = info.iv_proto();
    let offered = offered(info);
    let from_options: Option<Cipher> = match info.get("IV_CIPHERS") {
        None => options_cipher(&client.options).and_then(|name| name.parse().ok()),
        Some(_) => None,
    };
    let common =
        ciphers.iter().copied().find(|cipher| offered.contains(cipher) || from_options == Some(*cipher));
    let silent =
        offered.is_empty() && !info.negotiates_ciphers() && options_cipher(&client.options).is_none();
    let cipher = match common {
        Some(cipher) => cipher,
        None => params
            .data_ciphers_fallback
            .filter(|_| silent)
            .ok_or("Data channel cipher negotiation failed (no shared cipher)")?,
    };
    let data_v2 = proto.contains(IvProto::DATA_V2);
    if !data_v2 && !features.data_v1 {
        return Err("Data channel negotiation failed (missing DATA_V2)");
    }
    let tls_ekm = features.tls_ekm && proto.contains(IvProto::TLS_KEY_EXPORT);
    if force_tls_ekm && !tls_ekm {
        return Err("Key Derivation with TLS Keying Material Export (RFC 5705) required (client too old)");
    }
    let cc_exit = features.cc_exit && proto.contains(IvProto::CC_EXIT);
    let dyn_tls_crypt = features.dyn_tls_crypt && proto.contains(IvProto::DYNAMIC_TLS_CRYPT) && cc_exit;
    let epoch = features.epoch && data_v2 && cc_exit && proto.contains(IvProto::EPOCH_DATA);

    let mut push = Vec::new();
    if data_v2 {
        push.push(format!("peer-id {peer_id}"));
    }
    if info.negotiates_ciphers() {
        push.push(format!("cipher {cipher}"));
    }
    if tls_ekm && !cc_exit {
        push.push("key-derivation tls-ekm".to_owned());
    }
    if cc_exit {
        let mut flags = "protocol-flags cc-exit".to_owned();
        for (on, flag) in [(tls_ekm, " tls-ekm"), (dyn_tls_crypt, " dyn-tls-crypt"), (epoch, " aead-epoch")] {
            if on {
                flags.push_str(flag);
            }
        }
        push.push(flags);
    }
    if info.mtu().is_some() {
        push.push(format!("tun-mtu {tun_mtu}"));
    }
    let format = match (data_v2, epoch) {
        (false, _) => DataFormat::V1,
        (true, false) => DataFormat::V2,
        (true, true) => DataFormat::Epoch,
    };
    let peer_id = data_v2.then_some(peer_id);
    Ok(ServerChoice {
        negotiated: Negotiated { cipher, format, peer_id, tls_ekm, dyn_tls_crypt, cc_exit },
        push,
    })
}

/// What a client makes of a push reply.
pub(crate) fn client(
    params: &SessionParams,
    options: &[String],
    server_options: &str,
) -> Result<Negotiated, Failure> {
    let refuse = |sentence: String| Err(Failure::new(FailureKind::Negotiation, sentence));
    let features = &params.features;
    let (mut pushed_cipher, mut peer_id) = (None, None);
    let (mut tls_ekm, mut dyn_tls_crypt, mut cc_exit, mut epoch) = (false, false, false, false);
    for option in options {
        let mut words = option.split_ascii_whitespace();
        match words.next() {
            Some("cipher") => pushed_cipher = words.next(),
            Some("peer-id") => {
                peer_id = words.next().and_then(|id| id.parse::<u32>().ok()).filter(|id| *id < NO_PEER_ID);
            }
            Some("key-derivation") => tls_ekm |= words.next() == Some("tls-ekm"),
            Some("protocol-flags") => {
                for flag in words {
                    match flag {
                        "cc-exit" => cc_exit = features.cc_exit,
                        "tls-ekm" => tls_ekm = true,
                        "dyn-tls-crypt" => dyn_tls_crypt = features.dyn_tls_crypt,
                        "aead-epoch" => epoch = true,
                        other => tracing::warn!(flag = other, "the server pushed an unknown protocol flag"),
                    }
                }
            }
            _ => {}
        }
    }
    if tls_ekm && !features.tls_ekm {
        return refuse("the server wants keys from the TLS exporter, which was not offered".into());
    }
    if epoch && !(features.epoch && peer_id.is_some()) {
        return refuse(
            "the server wants epoch data keys without a peer id, or without our having offered them: update the \
             server"
                .into(),
        );
    }
    let allowed = |cipher: Cipher| {
        params.data_ciphers.contains(&cipher) || params.data_ciphers_fallback == Some(cipher)
    };
    let advice = |name: &str| match name.parse::<Cipher>() {
        Ok(cipher) => {
            format!("add it: `data-ciphers {}:{cipher}`", Cipher::format_list(&params.data_ciphers))
        }
        Err(_) => {
            "it is no AEAD cipher: the server must offer AES-256-GCM, AES-128-GCM or CHACHA20-POLY1305".into()
        }
    };
    let cipher = match (pushed_cipher, options_cipher(server_options)) {
        (Some(name), _) => match name.parse() {
            Ok(cipher) if allowed(cipher) => cipher,
            _ => {
                return refuse(format!(
                    "the server chose the data cipher {name}, which `data-ciphers` does not list; {}",
                    advice(name)
                ));
            }
        },
        (None, Some(name)) => match name.parse() {
            Ok(cipher) if params.data_ciphers.contains(&cipher) => cipher,
            _ => {
                return refuse(format!(
                    "the server negotiates no data cipher and uses {name}, which `data-ciphers` does not list; {}",
                    advice(name)
                ));
            }
        },
        (None, None) => match params.data_ciphers_fallback {
            Some(cipher) => cipher,
            None => {
                return refuse(
                    "the server names no data cipher: set `data-ciphers-fallback` to the one it uses".into(),
                );
            }
        },
    };
    if peer_id.is_none() && !features.data_v1 {
        return Err(Failure::new(
            FailureKind::NoPeerId,
            "the server gave no peer id (it is older than OpenVPN 2.4), which data channel offload needs: update the \
             server",
        ));
    }
    let format = match (peer_id, epoch) {
        (None, _) => DataFormat::V1,
        (Some(_), false) => DataFormat::V2,
        (Some(_), true) => DataFormat::Epoch,
    };
    Ok(Negotiated { cipher, format, peer_id, tls_ekm, dyn_tls_crypt, cc_exit })
}

/// What point-to-point peers compute alike. `exported` are the exporter's 3 bytes for the peer id.
pub(crate) fn p2p(
    params: &SessionParams,
    role: TlsRole,
    peer: &RemoteHello,
    exported: [u8; 3],
) -> Result<Negotiated, Failure> {
    let features = &params.features;
    let theirs = peer.peer_info.iv_proto();
    let negotiates = theirs.contains(IvProto::P2P_NCP);
    let both = |on: bool, bit: IvProto| on && negotiates && theirs.contains(bit);
    let offered = offered(&peer.peer_info);
    let (first, second) = match role {
        TlsRole::Server => (&params.data_ciphers, &offered),
        TlsRole::Client => (&offered, &params.data_ciphers),
    };
    let common = first.iter().copied().find(|cipher| second.contains(cipher)).filter(|_| negotiates);
    let Some(cipher) = common.or(params.data_ciphers_fallback) else {
        return Err(Failure::new(
            FailureKind::Negotiation,
            format!(
                "no data cipher in common with the peer (ours: {}, its: {}): make `data-ciphers` overlap, or set \
                 `data-ciphers-fallback` on both sides",
                Cipher::format_list(&params.data_ciphers),
                Cipher::format_list(&offered)
            ),
        ));
    };
    let data_v2 = both(true, IvProto::DATA_V2);
    if !data_v2 && !features.data_v1 {
        return Err(Failure::new(
            FailureKind::NoPeerId,
            "the peer negotiates no peer id (it is older than OpenVPN 2.6), which data channel offload needs in \
             point-to-point mode: update it",
        ));
    }
    let tls_ekm = both(features.tls_ekm, IvProto::TLS_KEY_EXPORT);
    let epoch = data_v2 && both(features.epoch, IvProto::EPOCH_DATA);
    let peer_id = match (data_v2, tls_ekm) {
        (false, _) => None,
        (true, false) => Some(P2P_FALLBACK_PEER_ID),
        (true, true) => Some(p2p_peer_id(exported).ok_or_else(|| {
            Failure::new(FailureKind::Negotiation, "the exporter gave the one unusable peer id: try again")
        })?),
    };
    Ok(Negotiated {
        cipher,
        format: match (data_v2, epoch) {
            (false, _) => DataFormat::V1,
            (true, false) => DataFormat::V2,
            (true, true) => DataFormat::Epoch,
        },
        peer_id,
        tls_ekm,
        dyn_tls_crypt: both(features.dyn_tls_crypt, IvProto::DYNAMIC_TLS_CRYPT),
        cc_exit: both(features.cc_exit, IvProto::CC_EXIT),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Link;
    use crate::wrap::Wrapping;

    fn params() -> SessionParams {
        SessionParams::new(Link::UdpV4, Wrapping::None)
    }

    fn peer(options: &str, info: &str) -> RemoteHello {
        RemoteHello {
            options: options.to_owned(),
            credentials: None,
            too_long: false,
            peer_info: PeerInfo::parse(info.as_bytes()),
        }
    }

    const OCC: &str = "V4,dev-type tun,link-mtu 1541,tun-mtu 1500,proto UDPv4,auth SHA1,keysize 128,key-method 2,tls-client";

    fn serve(params: &SessionParams, client: &RemoteHello) -> Result<ServerChoice, &'static str> {
        server(params, false, &params.data_ciphers, 3, 1500, client)
    }

    #[test]
    fn servers_meet_clients_of_every_age() {
        use Cipher::{Aes128Gcm, Aes256Gcm, ChaCha20Poly1305};
        // options string, peer info → cipher, pushed
        let rows: [(&str, &str, Cipher, &str); 7] = [
            // After 2.7: a peer id for each direction, where the server answers with one; otherwise as before
            (
                OCC,
                "ID=5c7a01\nIV_CIPHERS=AES-256-GCM\nIV_PROTO=8094\n",
                Aes256Gcm,
                "peer-id 3,cipher AES-256-GCM,protocol-flags cc-exit tls-ekm dyn-tls-crypt",
            ),
            // 2.4
            (OCC, "IV_VER=2.4.12\nIV_PROTO=2\nIV_NCP=2\n", Aes256Gcm, "peer-id 3,cipher AES-256-GCM"),
            // 2.5
            (
                OCC,
                "IV_PROTO=6\nIV_NCP=2\nIV_CIPHERS=AES-128-GCM\n",
                Aes128Gcm,
                "peer-id 3,cipher AES-128-GCM",
            ),
            // 2.6
            (
                OCC,
                "IV_MTU=1600\nIV_NCP=2\nIV_CIPHERS=AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305\nIV_PROTO=990\n",
                Aes256Gcm,
                "peer-id 3,cipher AES-256-GCM,protocol-flags cc-exit tls-ekm dyn-tls-crypt,tun-mtu 1500",
            ),
            // 2.7 on a platform where only ChaCha20 is wanted
            (
                OCC,
                "IV_CIPHERS=CHACHA20-POLY1305\nIV_PROTO=8094\n",
                ChaCha20Poly1305,
                "peer-id 3,cipher CHACHA20-POLY1305,protocol-flags cc-exit tls-ekm dyn-tls-crypt",
            ),
            // A late 2.5: exporter, but no protocol-flags
            (
                OCC,
                "IV_CIPHERS=AES-256-GCM\nIV_PROTO=14\n",
                Aes256Gcm,
                "peer-id 3,cipher AES-256-GCM,key-derivation tls-ekm",
            ),
            // No negotiation at all: the cipher of the options string counts, and nothing is pushed for it
            ("V4,cipher AES-128-GCM,auth SHA1", "IV_PROTO=2\n", Aes128Gcm, "peer-id 3"),
        ];
        for (options, info, cipher, pushed) in rows {
            let choice = serve(&params(), &peer(options, info)).unwrap();
            assert_eq!(choice.negotiated.cipher, cipher, "{info}");
            assert_eq!(choice.push.join(","), pushed, "{info}");
        }
    }

    #[test]
    fn servers_refuse_with_stock_words() {
        let no_cipher = Err("Data channel cipher negotiation failed (no shared cipher)");
        let refused = |params: &SessionParams, options: &str, info: &str| {
            serve(params, &peer(options, info)).map(|choice| choice.negotiated.cipher)
        };
        assert_eq!(refused(&params(), OCC, "IV_PROTO=2\nIV_CIPHERS=AES-256-CBC\n"), no_cipher);
        assert_eq!(refused(&params(), "V4,cipher BF-CBC,auth SHA1", "IV_PROTO=2\n"), no_cipher);
        assert_eq!(refused(&params(), OCC, "IV_PROTO=2\n"), no_cipher);
        let mut fallback = params();
        fallback.data_ciphers_fallback = Some(Cipher::Aes256Gcm);
        assert_eq!(refused(&fallback, OCC, "IV_PROTO=2\n"), Ok(Cipher::Aes256Gcm));
        // The fallback is for peers that say nothing, not for those that say something else.
        assert_eq!(refused(&fallback, "V4,cipher BF-CBC,auth SHA1", "IV_PROTO=2\n"), no_cipher);
        assert_eq!(refused(&fallback, OCC, "IV_PROTO=2\nIV_CIPHERS=AES-256-CBC\n"), no_cipher);
        assert_eq!(
            refused(&params(), OCC, "IV_NCP=2\n"),
            Err("Data channel negotiation failed (missing DATA_V2)")
        );
        let mut v1 = params();
        v1.features.data_v1 = true;
        let choice = serve(&v1, &peer(OCC, "IV_NCP=2\n")).unwrap();
        assert_eq!((choice.negotiated.format, choice.negotiated.peer_id), (DataFormat::V1, None));
        let old = peer(OCC, "IV_NCP=2\nIV_PROTO=2\n");
        assert!(server(&params(), true, &Cipher::DEFAULT, 3, 1500, &old).is_err());
    }

    #[test]
    fn epoch_only_where_both_have_it() {
        let mut able = params();
        able.features.epoch = true;
        let new = peer(OCC, "IV_CIPHERS=AES-256-GCM\nIV_PROTO=8094\n");
        let choice = serve(&able, &new).unwrap();
        assert_eq!(choice.negotiated.format, DataFormat::Epoch);
        assert!(choice.push.contains(&"protocol-flags cc-exit tls-ekm dyn-tls-crypt aead-epoch".to_owned()));
        assert_eq!(serve(&params(), &new).unwrap().negotiated.format, DataFormat::V2);
        let older = peer(OCC, "IV_CIPHERS=AES-256-GCM\nIV_PROTO=990\n");
        assert_eq!(serve(&able, &older).unwrap().negotiated.format, DataFormat::V2);
    }

    fn pull(params: &SessionParams, options: &[&str], server: &str) -> Result<Negotiated, Failure> {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        client(params, &options, server)
    }

    #[test]
    fn clients_take_what_was_offered() {
        let negotiated = pull(
            &params(),
            &["peer-id 7", "cipher aes-128-gcm", "protocol-flags cc-exit tls-ekm new-flag"],
            OCC,
        )
        .unwrap();
        assert_eq!(negotiated.cipher, Cipher::Aes128Gcm);
        assert_eq!(negotiated.peer_id, Some(7));
        assert!(negotiated.tls_ekm && negotiated.cc_exit && !negotiated.dyn_tls_crypt);
        let old = pull(&params(), &["peer-id 7", "key-derivation tls-ekm"], "V4,cipher AES-256-GCM").unwrap();
        assert!(old.tls_ekm && !old.cc_exit);
        assert_eq!(old.cipher, Cipher::Aes256Gcm);
        let mut fallback = params();
        fallback.data_ciphers_fallback = Some(Cipher::ChaCha20Poly1305);
        assert_eq!(pull(&fallback, &["peer-id 7"], OCC).unwrap().cipher, Cipher::ChaCha20Poly1305);
    }

    #[test]
    fn clients_say_what_is_missing() {
        let rows: [(&[&str], &str, &str); 6] = [
            (
                &["peer-id 1", "cipher AES-192-GCM"],
                OCC,
                "data-ciphers AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305:AES-192-GCM",
            ),
            (&["peer-id 1", "cipher AES-256-CBC"], OCC, "no AEAD cipher"),
            (&["peer-id 1"], "V4,cipher BF-CBC", "uses BF-CBC"),
            (&["peer-id 1"], OCC, "data-ciphers-fallback"),
            (&["cipher AES-256-GCM"], OCC, "no peer id"),
            (&["peer-id 1", "cipher AES-256-GCM", "protocol-flags aead-epoch"], OCC, "epoch"),
        ];
        for (options, server, words) in rows {
            let failure = pull(&params(), options, server).unwrap_err();
            assert!(failure.sentence.contains(words), "{failure}");
        }
    }

    #[test]
    fn point_to_point_peers_compute_alike() {
        let mut server = params();
        server.data_ciphers = vec![Cipher::ChaCha20Poly1305, Cipher::Aes128Gcm];
        let info = |params: &SessionParams| {
            let ciphers = Cipher::format_list(&params.data_ciphers);
            peer(OCC, &format!("IV_CIPHERS={ciphers}\nIV_PROTO={}\n", p2p_proto(&params.features)))
        };
        let client = params();
        let at_client = p2p(&client, TlsRole::Client, &info(&server), [0x90, 0xbb, 0x81]).unwrap();
        let at_server = p2p(&server, TlsRole::Server, &info(&client), [0x90, 0xbb, 0x81]).unwrap();
        assert_eq!(at_client, at_server);
        assert_eq!(at_client.cipher, Cipher::ChaCha20Poly1305, "the TLS server's first");
        assert_eq!(at_client.peer_id, Some(9_485_185));
        assert_eq!(p2p_proto(&client.features).bits(), 2 + 8 + 32 + 128 + 512);

        // A peer that negotiates nothing: fallback cipher, and only where the old format is carried.
        let silent = peer(OCC, "");
        assert!(p2p(&client, TlsRole::Client, &silent, [0; 3]).is_err());
        let mut old = params();
        old.data_ciphers_fallback = Some(Cipher::Aes256Gcm);
        assert!(p2p(&old, TlsRole::Client, &silent, [0; 3]).unwrap_err().sentence.contains("peer id"));
        old.features.data_v1 = true;
        let negotiated = p2p(&old, TlsRole::Client, &silent, [0; 3]).unwrap();
        assert_eq!((negotiated.format, negotiated.peer_id), (DataFormat::V1, None));
        // One that would take a peer id for each direction hears of none from us.
        let newer = peer(OCC, "ID=5c7a01\nIV_CIPHERS=AES-256-GCM\nIV_PROTO=7850\n");
        let negotiated = p2p(&client, TlsRole::Client, &newer, [0x90, 0xbb, 0x81]).unwrap();
        assert_eq!(negotiated.peer_id, Some(9_485_185));
        let without_exporter = peer(OCC, "IV_CIPHERS=AES-256-GCM\nIV_PROTO=34\n");
        assert_eq!(
            p2p(&client, TlsRole::Client, &without_exporter, [0; 3]).unwrap().peer_id,
            Some(0x76_706e)
        );
    }
}
