// Floods a node over TLS 1.3 as fast as it takes it: what Python is too slow for. Built by test_floods.py.
//
// flood connect|listen PORT CERT KEY CA NAME PRELUDE BODY CHUNK SECONDS BYTES OPTIONS
//
// Sends the file PRELUDE once on each connection, then the file BODY again and again in writes of CHUNK bytes (0: as
// large as they go), until SECONDS or BYTES (in all) are over. OPTIONS, letters: u sends key updates in the place of a
// body, n reads nothing, r comes back at once when cut off, o opens a connection with each round and nothing more,
// w waits for the first bytes of the other side before all, x sends no body and leaves when the other side has taken the
// prelude. Prints the bytes that were written and the number of connections.
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double ends;
static long long most, written, connections;
static const char *options;

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec / 1e9;
}

static int has(char option) { return strchr(options, option) != NULL; }
static int is_over(void) { return now() >= ends || written >= most; }

static char *load(const char *path, size_t *size) {
  FILE *file = fopen(path, "rb");
  if (!file) exit(2);
  fseek(file, 0, SEEK_END);
  *size = ftell(file);
  rewind(file);
  char *bytes = malloc(*size + 1);
  if (fread(bytes, 1, *size, file) != *size) exit(2);
  fclose(file);
  return bytes;
}

/// Takes what came, and forgets it. 0 when the connection is over.
static int drain(SSL *ssl) {
  char buffer[65536];
  while (!has('n')) {
    int count = SSL_read(ssl, buffer, sizeof buffer);
    if (count > 0) continue;
    return SSL_get_error(ssl, count) == SSL_ERROR_WANT_READ || SSL_get_error(ssl, count) == SSL_ERROR_WANT_WRITE;
  }
  return 1;
}

static int await(SSL *ssl, short events) {
  struct pollfd entry = {SSL_get_fd(ssl), events, 0};
  return poll(&entry, 1, 100) >= 0 && !is_over();
}

static int send_all(SSL *ssl, const char *bytes, size_t size, size_t chunk) {
  while (size > 0) {
    size_t count = chunk && chunk < size ? chunk : size;
    int sent = SSL_write(ssl, bytes, count);
    if (sent > 0) {
      written += sent;
      bytes += sent;
      size -= sent;
      continue;
    }
    int error = SSL_get_error(ssl, sent);
    if (error != SSL_ERROR_WANT_WRITE && error != SSL_ERROR_WANT_READ) return 0;
    if (!drain(ssl) || !await(ssl, has('n') ? POLLOUT : POLLOUT | POLLIN)) return 0;
  }
  return 1;
}

static void rounds(SSL *ssl, const char *body, size_t size, size_t chunk) {
  while (!is_over()) {
    if (has('u')) {
      // 27 bytes on the wire.
      if (SSL_key_update(ssl, SSL_KEY_UPDATE_NOT_REQUESTED) != 1) return;
      int result = SSL_do_handshake(ssl);
      if (result == 1) written += 27;
      else if (SSL_get_error(ssl, result) != SSL_ERROR_WANT_WRITE) return;
      else if (!await(ssl, POLLOUT)) return;
    } else if (size == 0) {
      if (!await(ssl, POLLIN)) return;
    } else if (!send_all(ssl, body, size, chunk)) {
      return;
    }
    if (!drain(ssl)) return;
  }
}

/// Until the other side has read to the end, and hangs up.
static void part(SSL *ssl) {
  shutdown(SSL_get_fd(ssl), SHUT_WR);
  while (drain(ssl) && await(ssl, POLLIN)) {
  }
}

static int dial(int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  int number = socket(AF_INET, SOCK_STREAM, 0);
  if (number >= 0 && connect(number, (struct sockaddr *)&address, sizeof address) == 0) return number;
  close(number);
  return -1;
}

static int listener(int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  int number = socket(AF_INET, SOCK_STREAM, 0), one = 1;
  setsockopt(number, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(number, (struct sockaddr *)&address, sizeof address) != 0 || listen(number, 16) != 0) exit(3);
  return number;
}

int main(int count, char **arguments) {
  if (count != 13) return 2;
  int listens = strcmp(arguments[1], "listen") == 0, port = atoi(arguments[2]);
  signal(SIGPIPE, SIG_IGN);
  options = arguments[12];
  size_t prelude_size, body_size, chunk = atol(arguments[9]);
  char *prelude = load(arguments[7], &prelude_size), *body = load(arguments[8], &body_size);
  ends = now() + atof(arguments[10]);
  most = atoll(arguments[11]);
  SSL_CTX *context = SSL_CTX_new(listens ? TLS_server_method() : TLS_client_method());
  SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  if (SSL_CTX_use_certificate_chain_file(context, arguments[3]) != 1
      || SSL_CTX_use_PrivateKey_file(context, arguments[4], SSL_FILETYPE_PEM) != 1
      || SSL_CTX_load_verify_locations(context, arguments[5], NULL) != 1)
    return 4;
  SSL_CTX_set_verify(context, listens ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT : SSL_VERIFY_PEER, NULL);
  int listening = listens ? listener(port) : -1;
  if (listens) {
    printf("listening\n");
    fflush(stdout);
  }
  do {
    if (listens) {
      struct pollfd entry = {listening, POLLIN, 0};
      if (poll(&entry, 1, 100) <= 0) continue;
    }
    int number = listens ? accept(listening, NULL, NULL) : dial(port);
    if (number < 0) {
      usleep(1000);
      continue;
    }
    struct timeval patience = {2, 0};
    setsockopt(number, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    int one = 1;
    setsockopt(number, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    SSL *ssl = SSL_new(context);
    SSL_set_fd(ssl, number);
    if ((listens ? SSL_accept(ssl) : SSL_connect(ssl)) == 1) {
      connections++;
      char first[4096];
      if (has('w') && SSL_read(ssl, first, sizeof first) <= 0) goto over;
      fcntl(number, F_SETFL, fcntl(number, F_GETFL) | O_NONBLOCK);
      int stands = send_all(ssl, prelude, prelude_size, 0);
      if (stands && has('x')) part(ssl);
      else if (stands && !has('o')) rounds(ssl, body, body_size, chunk);
    }
  over:
    ERR_clear_error();
    SSL_free(ssl);
    close(number);
  } while (!is_over() && (listens || has('r')));
  printf("%lld %lld\n", written, connections);
  return 0;
}
