#pragma once

#include <string>
#include <vector>

#include "core/cipher.h"

namespace kms {

// Whether a client's chain (DER, its own certificate first) leads to one of `authorities` now, by RFC 5280 and for TLS clients.
// `revoked` holds the revocation lists; if it is not empty, every issuer of the chain must have one that is in force. Both are
// PEM. Empty if it does; else why not, in OpenSSL's words, which hold nothing of the certificates.
std::string whyNotTrusted(const std::vector<Bytes>& chain, Bytes authorities, Bytes revoked);

// When the first of the revocation lists (PEM) has to be replaced, in seconds since 1970; -1 if none says so.
int64_t firstNextUpdate(Bytes revoked);

}  // namespace kms
