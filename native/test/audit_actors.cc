#include "audit_ground.h"

using namespace kms;
using namespace audit;

TEST("only what an actor may be called gets a number, and always the same") {
  CHECK(actor("uid:1") != 0);
  CHECK_EQUAL(actor("uid:1"), actor("uid:1"));
  CHECK(actor("uid:1") != actor("uid:2"));
  CHECK_EQUAL(AuditActors::instance().nameOf(actor("token:ab")), std::string_view("token:ab"));
  for (const std::string& wrong : {std::string(), std::string("a b"), std::string("a\"b"), std::string("a\nb"), std::string(65, 'a')}) {
    CHECK_EQUAL(actor(wrong), AuditActors::kNone);
  }
  CHECK(actor(std::string(64, 'a')) != 0);
}

TEST("names of one kind, however many, leave numbers to others, and keep their own") {
  AuditActors actors(16);
  const auto name = [](const char* kind, int which) { return kind + std::to_string(which); };
  for (uint32_t i = 0; i < 40; ++i) CHECK_EQUAL(actors.numberOf(name("oidc:", static_cast<int>(i))), i < 12 ? i + 1 : AuditActors::kNone);
  CHECK_EQUAL(actors.numberOf("uid:0"), 13u);
  CHECK_EQUAL(actors.numberOf("oidc"), 14u);
  CHECK_EQUAL(actors.numberOf("oidc:3"), 4u);
  CHECK_EQUAL(actors.nameOf(13), std::string_view("uid:0"));
  CHECK_EQUAL(actors.numberOf("oidc:41"), AuditActors::kNone);
  for (int i = 0; i < 4; ++i) CHECK_EQUAL(actors.numberOf(name("cert:", i)), i < 2 ? static_cast<uint32_t>(15 + i) : AuditActors::kNone);
}

MAIN
