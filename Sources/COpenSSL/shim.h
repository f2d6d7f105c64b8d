// OpenSSL 3.0. `static inline` only: what OpenSSL offers as macros, variadic functions or unions, which Swift can't see.
#pragma once
// Not with _GNU_SOURCE: glibc's types would then differ from those of Swift's Glibc module, which is built without it.
#include <openssl/ssl.h>
#include <openssl/evp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

// MARK: TLS contexts

static inline int nj_ssl_ctx_set_tls13_only(SSL_CTX *context) {
  return SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1
      && SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) == 1;
}

static inline void nj_ssl_ctx_set_modes(SSL_CTX *context) {
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
                                | SSL_MODE_RELEASE_BUFFERS);
  // On by default: a read would then go on by itself behind every record that isn't data.
  SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION
                                   | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
}

static inline int nj_ssl_ctx_add_chain_certificate(SSL_CTX *context, X509 *certificate) {
  return SSL_CTX_add1_chain_cert(context, certificate) == 1;
}

// MARK: Stacks and general names

static inline STACK_OF(X509) *nj_x509_stack_new(void) { return sk_X509_new_null(); }
static inline int nj_x509_stack_count(const STACK_OF(X509) *stack) { return sk_X509_num(stack); }
static inline X509 *nj_x509_stack_at(const STACK_OF(X509) *stack, int index) { return sk_X509_value(stack, index); }
/// Takes over the reference when it returns 1.
static inline int nj_x509_stack_push(STACK_OF(X509) *stack, X509 *certificate) {
  return sk_X509_push(stack, certificate) > 0;
}
static inline void nj_x509_stack_free(STACK_OF(X509) *stack) { sk_X509_pop_free(stack, X509_free); }

static inline GENERAL_NAMES *nj_x509_alternative_names(const X509 *certificate) {
  return (GENERAL_NAMES *)X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
}
static inline int nj_general_names_count(const GENERAL_NAMES *names) { return sk_GENERAL_NAME_num(names); }
/// The type (`GEN_DNS` ...) of one name, and its bytes for DNS, URI and IP names (else none).
static inline int nj_general_name_at(const GENERAL_NAMES *names, int index, const unsigned char **bytes, int *count) {
  const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, index);
  const ASN1_STRING *string = NULL;
  if (name->type == GEN_DNS) string = name->d.dNSName;
  if (name->type == GEN_URI) string = name->d.uniformResourceIdentifier;
  if (name->type == GEN_IPADD) string = name->d.iPAddress;
  *bytes = string ? ASN1_STRING_get0_data(string) : NULL;
  *count = string ? ASN1_STRING_length(string) : 0;
  return name->type;
}

// MARK: Keys and memory

static inline EVP_PKEY *nj_generate_p256(void) { return EVP_EC_gen("P-256"); }
static inline EVP_PKEY *nj_generate_rsa(unsigned int bits) { return EVP_RSA_gen(bits); }
static inline EVP_PKEY *nj_generate_ed25519(void) { return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"); }

static inline long nj_bio_bytes(BIO *bio, char **bytes) { return BIO_get_mem_data(bio, bytes); }

/// Never asks on the terminal: a key that needs a passphrase can't be loaded.
static inline int nj_no_passphrase(char *buffer, int size, int writing, void *user) {
  (void)buffer; (void)size; (void)writing; (void)user;
  return -1;
}
static inline EVP_PKEY *nj_read_private_key(BIO *bio) {
  return PEM_read_bio_PrivateKey(bio, NULL, nj_no_passphrase, NULL);
}
static inline X509 *nj_read_certificate(BIO *bio) { return PEM_read_bio_X509(bio, NULL, nj_no_passphrase, NULL); }
static inline int nj_write_private_key(BIO *bio, const EVP_PKEY *key) {
  return PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1;
}

/// An extension in the notation of x509v3_config(5), added to `certificate`.
static inline int nj_x509_add_extension(X509 *certificate, X509 *issuer, int nid, const char *value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
  X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
  if (!extension) return 0;
  int added = X509_add_ext(certificate, extension, -1) == 1;
  X509_EXTENSION_free(extension);
  return added;
}

/// A context that speaks TLS 1.2 and no more: what tests offer to see it refused.
static inline int nj_ssl_ctx_set_tls12_only(SSL_CTX *context) {
  return SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION) == 1;
}
