//! Client and server against each other in fair weather: every wrapping, TLS version and feature.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::pki::{self, pki};
use common::{Weather, World};
use ovpn_control::{Cipher, DataFormat, Event, TlsCryptV2Server, TlsOptions, TlsVersion, Wrapping};
use ovpn_crypto::secret::Secret;
use ovpn_crypto::static_key::KeyDirection;
use ovpn_crypto::tls_auth::AuthDigest;
use ovpn_crypto::tls_crypt_v2::{Metadata, ServerKey};

fn come_up(mut world: World) -> World {
    let up = world.run_until(Duration::from_secs(5), World::established);
    assert!(up, "client: {:?}\nserver: {:?}\n{:?}", world.client_events, world.server_events, world.drops);
    assert!(world.client_slots.reaches(&world.server_slots));
    assert!(world.server_slots.reaches(&world.client_slots));
    world
}

fn wrappings() -> Vec<(&'static str, Wrapping, Wrapping)> {
    let key = || pki::static_key(1);
    let auth = |direction| Wrapping::TlsAuth { key: key(), direction, digest: AuthDigest::Sha256 };
    vec![
        ("none", Wrapping::None, Wrapping::None),
        ("tls-auth", auth(KeyDirection::Inverse), auth(KeyDirection::Normal)),
        ("tls-auth both", auth(KeyDirection::Bidirectional), auth(KeyDirection::Bidirectional)),
        ("tls-crypt", Wrapping::TlsCrypt(key()), Wrapping::TlsCrypt(key())),
    ]
}

#[test]
fn every_wrapping() {
    for (name, client, server) in wrappings() {
        let world = come_up(World::new(1, Weather::FAIR, pki::client(client), pki::server(server)));
        let negotiated = world.client.negotiated().unwrap();
        assert_eq!(negotiated.cipher, Cipher::Aes256Gcm, "{name}");
        assert_eq!(negotiated.peer_id, Some(5));
        assert_eq!(negotiated.format, DataFormat::V2);
        assert!(negotiated.tls_ekm && negotiated.dyn_tls_crypt && negotiated.cc_exit);
        assert_eq!(world.server.as_ref().unwrap().negotiated(), Some(negotiated));
        assert_eq!(
            world.pushed().unwrap(),
            [
                "route-gateway 10.8.0.1",
                "ifconfig 10.8.0.2 255.255.255.0",
                "peer-id 5",
                "cipher AES-256-GCM",
                "protocol-flags cc-exit tls-ekm dyn-tls-crypt",
                "tun-mtu 1500"
            ]
        );
        assert!(world.elapsed() < Duration::from_millis(200), "{name}: {:?}", world.elapsed());
    }
}

fn v2_world(force_cookie: bool, max_age_days: Option<u32>) -> World {
    let server_key = Arc::new(ServerKey::new(Secret::new([9; 128])).unwrap());
    let made = i64::try_from(common::UNIX).unwrap() - 3 * 86_400;
    let client_key = server_key.wrap(pki::static_key(3), &Metadata::Timestamp(made)).unwrap();
    let mut server = pki::server(Wrapping::None);
    server.tls_crypt_v2 = Some(TlsCryptV2Server { key: server_key, force_cookie, max_age_days });
    World::new(1, Weather::FAIR, pki::client(Wrapping::TlsCryptV2(Arc::new(client_key))), server)
}

#[test]
fn tls_crypt_v2_with_cookie() {
    let world = come_up(v2_world(true, Some(4)));
    let metadata = world.server_events.iter().find_map(|event| match event {
        Event::AuthRequest(request) => request.wrapped_key_metadata.clone(),
        _ => None,
    });
    assert!(matches!(metadata, Some(Metadata::Timestamp(_))));
    // HARD_RESET_CLIENT_V3, HARD_RESET_SERVER_V2, CONTROL_WKC_V1: no state before the third.
    assert_eq!(world.log.get(..3), Some([0x50, 0x40, 0x58].as_slice()));
}

#[test]
fn tls_crypt_v2_key_too_old() {
    let mut world = v2_world(true, Some(2));
    assert!(!world.run_until(Duration::from_secs(20), World::established));
    assert!(world.server.is_none());
    assert!(world.drops.iter().any(|(_, reason)| *reason == ovpn_control::DropReason::ClientKeyTooOld));
}

#[test]
fn both_tls_versions() {
    for version in [TlsVersion::V12, TlsVersion::V13] {
        let options = TlsOptions { min_version: version, max_version: version, ..TlsOptions::default() };
        let session = pki::session(Wrapping::None);
        let client = pki::client_with(session, Some(pki().client.identity()), pki::rules(), &options);
        let world = come_up(World::new(1, Weather::FAIR, client, pki::server(Wrapping::None)));
        let facts = world.server_events.iter().find_map(|event| match event {
            Event::PeerConnected { tls, chain, .. } => Some((tls.clone(), chain.clone())),
            _ => None,
        });
        let (tls, chain) = facts.unwrap();
        assert_eq!(tls.version, if version == TlsVersion::V12 { "TLSv1.2" } else { "TLSv1.3" });
        let group = if version == TlsVersion::V12 { "X25519" } else { "X25519MLKEM768" };
        assert_eq!(tls.group, group);
        let chain = chain.unwrap();
        assert_eq!(chain.leaf().unwrap().subject, "O=Throwaway, CN=client");
        assert_eq!(chain.certificates.len(), 2, "leaf and CA");
        assert_eq!(chain.certificates[1].common_name, "Throwaway CA");
    }
}

#[test]
fn old_peers_without_exporter() {
    let mut client = pki::client(Wrapping::None);
    client.session.features.tls_ekm = false;
    client.session.features.cc_exit = false;
    client.session.features.dyn_tls_crypt = false;
    let world = come_up(World::new(1, Weather::FAIR, client, pki::server(Wrapping::None)));
    let negotiated = world.client.negotiated().unwrap();
    assert!(!negotiated.tls_ekm && !negotiated.cc_exit && !negotiated.dyn_tls_crypt);
}

#[test]
fn epoch_format() {
    let (mut client, mut server) = (pki::client(Wrapping::None), pki::server(Wrapping::None));
    client.session.features.epoch = true;
    server.session.features.epoch = true;
    client.session.data_ciphers = vec![Cipher::Aes128Gcm];
    let world = come_up(World::new(1, Weather::FAIR, client, server));
    assert_eq!(world.client.negotiated().unwrap().format, DataFormat::Epoch);
    assert_eq!(world.client_slots.primary.as_ref().unwrap().encrypt.cipher_key.len(), 32);
}

#[test]
fn long_configuration_comes_in_parts() {
    let mut world = World::new(1, Weather::FAIR, pki::client(Wrapping::None), pki::server(Wrapping::None));
    world.policy.options = (0..200).map(|n| format!("route 10.{n}.0.0 255.255.0.0")).collect();
    let world = come_up(world);
    let pushed = world.pushed().unwrap();
    assert_eq!(pushed.len(), 204);
    assert_eq!(pushed[199], "route 10.199.0.0 255.255.0.0");
    assert!(!pushed.iter().any(|option| option.starts_with("push-continuation")));
}

#[test]
fn compression_migrates() {
    for (stub, wanted) in [(true, "compress stub-v2"), (false, "comp-lzo no")] {
        let (mut client, mut server) = (pki::client(Wrapping::None), pki::server(Wrapping::None));
        server.compress_migrate = true;
        client.session.options.comp_lzo = true;
        if stub {
            client.peer_info.push(("IV_COMP_STUBv2".into(), "1".into()));
        }
        let world = come_up(World::new(1, Weather::FAIR, client, server));
        assert!(world.pushed().unwrap().iter().any(|option| option == wanted));
        assert_eq!(world.server.as_ref().unwrap().migrated_compression(), Some(wanted));
        let answered = |event: &Event| matches!(event, Event::PeerConnected { remote_options, .. } if remote_options.contains(",comp-lzo,"));
        assert!(world.client_events.iter().any(answered));
    }
    // A client that does not frame is left alone.
    let mut server = pki::server(Wrapping::None);
    server.compress_migrate = true;
    let world = come_up(World::new(1, Weather::FAIR, pki::client(Wrapping::None), server));
    assert_eq!(world.server.as_ref().unwrap().migrated_compression(), None);
    assert!(!world.pushed().unwrap().iter().any(|option| option.starts_with("comp")));
}
