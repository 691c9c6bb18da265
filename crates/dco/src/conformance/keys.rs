//! Keys: slots, replacement, exchange, and what is refused.

use super::bench::{Bench, Check, Done, EINVAL, ENOENT, accepted, expect, id, key, refused};
use super::{Case, Factory, Verdict, case};
use crate::{CipherAlg, Driver, KeyId, KeySlot};

pub(super) const CASES: &[Case] = &[
    case!(unknown_peer: "keys of an unknown peer"),
    case!(bad_keys: "KEY_NEW: wrong lengths and ciphers are refused"),
    case!(ciphers: "KEY_NEW: every cipher"),
    case!(slots: "KEY_NEW, KEY_GET, KEY_SWAP, KEY_DEL: two slots"),
    case!(empty_slots: "KEY_SWAP, KEY_DEL: empty slots are no error"),
    case!(gone_with_peer: "keys go with their peer"),
];

const SLOTS: [KeySlot; 2] = [KeySlot::Primary, KeySlot::Secondary];

fn unknown_peer(factory: &dyn Factory) -> Done {
    let bench = Bench::multi(factory)?;
    let (plane, nobody) = (&bench.plane, id(20));
    let key = key(CipherAlg::AesGcm, 32, 0, true);
    refused("new", ENOENT, plane.key_new(nobody, KeySlot::Primary, &key))?;
    refused("swap", ENOENT, plane.key_swap(nobody))?;
    refused("del", ENOENT, plane.key_del(nobody, KeySlot::Primary))?;
    if !bench.is(Driver::KernelV2) {
        refused("get", ENOENT, plane.key_get(nobody, KeySlot::Primary))?;
    }
    Ok(Verdict::Passed)
}

/// A bench with peer 1.
fn with_peer(factory: &dyn Factory) -> Check<(Bench, crate::Transport)> {
    let bench = Bench::p2p(factory)?;
    let (udp, _) = bench.udp()?;
    bench.add(&bench.peer(1, udp.id))?;
    Ok((bench, udp))
}

fn bad_keys(factory: &dyn Factory) -> Done {
    let (bench, _udp) = with_peer(factory)?;
    let new = |cipher, len| {
        let key = key(cipher, len, 0, true);
        bench.plane.key_new(id(1), KeySlot::Primary, &key)
    };
    refused("no cipher", EINVAL, new(CipherAlg::None, 32))?;
    for len in [0, 15, 17, 31, 33, 64] {
        refused("AES-GCM", EINVAL, new(CipherAlg::AesGcm, len))
            .map_err(|why| format!("{len} bytes: {why}"))?;
    }
    for len in [0, 16, 24, 31, 33] {
        let result = new(CipherAlg::ChaCha20Poly1305, len);
        refused("CHACHA20-POLY1305", EINVAL, result).map_err(|why| format!("{len} bytes: {why}"))?;
    }
    if !bench.is(Driver::KernelV2) {
        refused("the slot", ENOENT, bench.plane.key_get(id(1), KeySlot::Primary))?;
    }
    Ok(Verdict::Passed)
}

fn ciphers(factory: &dyn Factory) -> Done {
    let (bench, _udp) = with_peer(factory)?;
    let aes_192 = bench.plane.capabilities().aes_192;
    for (cipher, len) in [
        (CipherAlg::AesGcm, 16),
        (CipherAlg::AesGcm, 24),
        (CipherAlg::AesGcm, 32),
        (CipherAlg::ChaCha20Poly1305, 32),
    ] {
        let offered = bench.plane.capabilities().ciphers.contains(&cipher) && (len != 24 || aes_192);
        if !offered {
            continue;
        }
        for slot in SLOTS {
            let key = key(cipher, len, 7, true);
            accepted("new", bench.plane.key_new(id(1), slot, &key)).map_err(|why| format!("{len}: {why}"))?;
        }
    }
    Ok(Verdict::Passed)
}

fn slots(factory: &dyn Factory) -> Done {
    let (bench, _udp) = with_peer(factory)?;
    if bench.is(Driver::KernelV2) {
        return Ok(Verdict::NotApplicable("ovpn-dco-v2 does not tell keys"));
    }
    let install = |slot, key_id, cipher| {
        let key = key(cipher, 32, key_id, true);
        accepted("new", bench.plane.key_new(id(1), slot, &key))
    };
    // which key id is in which slot
    let state = || {
        SLOTS.map(|slot| match bench.plane.key_get(id(1), slot) {
            Ok(info) => Some((info.key_id.get(), info.cipher)),
            Err(error) if error.errno() == ENOENT => None,
            Err(error) => Some((0xFF, { CipherAlg::None })).filter(|_| !error.detail().is_empty()),
        })
    };
    let (aes, chacha) = (CipherAlg::AesGcm, CipherAlg::ChaCha20Poly1305);
    expect(&state(), &[None, None])?;
    install(KeySlot::Primary, 0, aes)?;
    expect(&state(), &[Some((0, aes)), None])?;
    install(KeySlot::Secondary, 1, chacha)?;
    expect(&state(), &[Some((0, aes)), Some((1, chacha))])?;
    accepted("swap", bench.plane.key_swap(id(1)))?;
    expect(&state(), &[Some((1, chacha)), Some((0, aes))])?;
    install(KeySlot::Secondary, 2, aes)?;
    expect(&state(), &[Some((1, chacha)), Some((2, aes))])?;
    if bench.plane.capabilities().key_del {
        accepted("del", bench.plane.key_del(id(1), KeySlot::Secondary))?;
        expect(&state(), &[Some((1, chacha)), None])?;
        accepted("swap", bench.plane.key_swap(id(1)))?;
        expect(&state(), &[None, Some((1, chacha))])?;
        accepted("del", bench.plane.key_del(id(1), KeySlot::Secondary))?;
        expect(&state(), &[None, None])?;
    }
    for number in 0..=7 {
        install(KeySlot::Primary, number, aes)?;
        let told = accepted("get", bench.plane.key_get(id(1), KeySlot::Primary))?;
        expect(&Some(told.key_id), &KeyId::new(number))?;
    }
    Ok(Verdict::Passed)
}

fn empty_slots(factory: &dyn Factory) -> Done {
    let (bench, _udp) = with_peer(factory)?;
    accepted("swap", bench.plane.key_swap(id(1)))?;
    for slot in SLOTS {
        accepted("del", bench.plane.key_del(id(1), slot))?;
        if !bench.is(Driver::KernelV2) {
            refused("get", ENOENT, bench.plane.key_get(id(1), slot))?;
        }
    }
    Ok(Verdict::Passed)
}

fn gone_with_peer(factory: &dyn Factory) -> Done {
    let (bench, udp) = with_peer(factory)?;
    if bench.is(Driver::KernelV2) {
        return Ok(Verdict::NotApplicable("ovpn-dco-v2 does not tell keys"));
    }
    let key = key(CipherAlg::AesGcm, 32, 0, true);
    accepted("new", bench.plane.key_new(id(1), KeySlot::Primary, &key))?;
    accepted("del", bench.plane.peer_del(id(1)))?;
    refused("get", ENOENT, bench.plane.key_get(id(1), KeySlot::Primary))?;
    bench.add(&bench.peer(1, udp.id))?;
    refused("get of the new peer", ENOENT, bench.plane.key_get(id(1), KeySlot::Primary))?;
    Ok(Verdict::Passed)
}
