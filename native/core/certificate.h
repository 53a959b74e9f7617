#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/cipher.h"

struct x509_store_st;

namespace kms {

// Whose certificates are trusted, read once: lists of millions are not parsed for each connection.
class Trust {
 public:
  ~Trust();

  // `authorities` and `revoked` are PEM; if `revoked` is not empty, every issuer of a chain must have a revocation list in force.
  // Null for what cannot be read.
  static std::unique_ptr<Trust> open(Bytes authorities, Bytes revoked);

  // Whether a client's chain (DER, its own certificate first) leads to one of the authorities now, by RFC 5280 and for TLS
  // clients. Empty if it does; else why not, in OpenSSL's words, which hold nothing of the certificates.
  std::string whyNot(const std::vector<Bytes>& chain) const;

 private:
  explicit Trust(x509_store_st* store) : store_(store) {}
  Trust(const Trust&) = delete;
  Trust& operator=(const Trust&) = delete;

  x509_store_st* const store_;
};

// Whether one of the revocation lists (PEM) says only what has changed since another (RFC 5280, section 5.2.4).
bool holdsDelta(Bytes revoked);

// When the first of the revocation lists (PEM) has to be replaced, in seconds since 1970; -1 if none says so.
int64_t firstNextUpdate(Bytes revoked);

}  // namespace kms
