#include "core/json.h"

#include <string>
#include <string_view>

#include "test/check.h"

using kms::JsonReader;

// A reader holds no copy of its text; this one has one, of exactly its size.
class Reader : private check::Exact, public JsonReader {
 public:
  explicit Reader(std::string_view text) : Exact(text), JsonReader(data(), size()) {}
};

static bool readsAsString(const std::string& text, std::string* value) {
  Reader in(text);
  return in.readString(value) && in.finish();
}

static bool refusesString(const std::string& text) {
  std::string value;
  return !readsAsString(text, &value);
}

static bool readsAsInteger(const std::string& text, uint64_t* value) {
  Reader in(text);
  return in.readInteger(value) && in.finish();
}

static bool refusesInteger(const std::string& text) {
  uint64_t value = 0;
  return !readsAsInteger(text, &value);
}

// {"a": ["x", …], "b": 1}
static bool readsAsDocument(const std::string& text, size_t* elements) {
  Reader in(text);
  std::string name, value;
  uint64_t number = 0;
  *elements = 0;
  if (!in.openObject()) return false;
  while (in.nextMember(&name)) {
    if (name == "b") {
      if (!in.readInteger(&number)) return false;
    } else {
      if (!in.openArray()) return false;
      for (; in.nextElement(); ++*elements) {
        if (!in.readString(&value)) return false;
      }
    }
  }
  return in.finish();
}

TEST("strings decode every escape of the grammar") {
  std::string value;
  CHECK(readsAsString(R"("\"\\\/\b\f\n\r\t\u0041")", &value));
  CHECK_EQUAL(value, std::string("\"\\/\b\f\n\r\tA"));
  CHECK(readsAsString(R"("\u00e9\u20AC\ud83d\uDE00")", &value));
  CHECK_EQUAL(value, std::string("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"));
  CHECK(readsAsString(R"("a\u0000b")", &value));
  CHECK_EQUAL(value.size(), size_t{3});
}

TEST("strings with a broken escape, a control character or no end are refused") {
  for (const char* text : {R"("\x")", R"("\u12")", R"("\u12g4")", R"("\)", R"("abc)", "\"a\nb\"", "\"a\tb\"", "'a'", "a", "\""}) {
    CHECK(refusesString(text));
  }
}

TEST("surrogates stand in pairs only") {
  for (const char* text : {R"("\ud83d")", R"("\ude00")", R"("\ud83d\ud83d")", R"("\ud83dx")", R"("\ud83d\n")"}) {
    CHECK(refusesString(text));
  }
}

TEST("valid UTF-8 passes and overlong, surrogate, truncated or too large sequences do not") {
  std::string value;
  for (const char* text : {"\"\xc2\x80\"", "\"\xdf\xbf\"", "\"\xe0\xa0\x80\"", "\"\xed\x9f\xbf\"", "\"\xef\xbf\xbf\"",
                           "\"\xf0\x90\x80\x80\"", "\"\xf4\x8f\xbf\xbf\""}) {
    CHECK(readsAsString(text, &value));
    CHECK_EQUAL("\"" + value + "\"", std::string(text));
  }
  for (const char* text : {"\"\x80\"", "\"\xc0\xaf\"", "\"\xc1\xbf\"", "\"\xc2\"", "\"\xe0\x9f\xbf\"", "\"\xed\xa0\x80\"",
                           "\"\xe2\x82\"", "\"\xf0\x8f\xbf\xbf\"", "\"\xf4\x90\x80\x80\"", "\"\xf5\x80\x80\x80\"", "\"\xff\""}) {
    CHECK(refusesString(text));
  }
}

TEST("a multi-byte sequence cut by the end of the input is refused") {
  CHECK(refusesString("\"\xf0\x9f\x98"));
  CHECK(refusesString("\"\xc3"));
}

TEST("integers go up to 2^53 - 1") {
  uint64_t value = 1;
  CHECK(readsAsInteger("0", &value));
  CHECK_EQUAL(value, 0u);
  CHECK(readsAsInteger(" 9007199254740991\n", &value));
  CHECK_EQUAL(value, 9007199254740991u);
  CHECK(refusesInteger("9007199254740992"));
  CHECK(refusesInteger("99999999999999999999999999"));
}

TEST("numbers of any other form are refused") {
  for (const char* text : {"-1", "-0", "+1", "01", "00", "1.0", "1.", ".5", "1e3", "1E3", "0x10", "", "\"1\"", "true", "null", "1 2"}) {
    CHECK(refusesInteger(text));
  }
}

TEST("objects and arrays are read with white space anywhere") {
  size_t elements = 0;
  CHECK(readsAsDocument("{}", &elements));
  CHECK(readsAsDocument("\t{ \"a\" :\r\n [ ] , \"b\" : 7 } \n", &elements));
  CHECK_EQUAL(elements, size_t{0});
  CHECK(readsAsDocument(R"({"b":1,"a":["x","y"]})", &elements));
  CHECK_EQUAL(elements, size_t{2});
}

TEST("missing, doubled and trailing separators are refused") {
  size_t elements = 0;
  for (const char* text :
       {R"({"b":1,})", R"({,"b":1})", R"({"b" 1})", R"({"b"::1})", R"({"b":1 "a":[]})", R"({"a":["x",]})", R"({"a":[,"x"]})",
        R"({"a":["x""y"]})", R"({"a":["x"})", R"({"a":["x"]])", R"({"b":1)", R"({b:1})", "[", "{", "", R"({"b":})", R"({"b")"}) {
    CHECK(!readsAsDocument(text, &elements));
  }
}

TEST("nothing but white space may follow the document") {
  size_t elements = 0;
  for (const char* text : {"{}{}", "{} x", "{},", "{}]", "\xef\xbb\xbf{}"}) CHECK(!readsAsDocument(text, &elements));
  CHECK(!readsAsDocument(std::string("{}\0", 3), &elements));
}

TEST("nesting is bounded") {
  Reader in("[[[[");
  CHECK(in.openArray() && in.nextElement() && in.openArray() && in.nextElement() && in.openArray() && in.nextElement());
  CHECK(!in.openArray());
  CHECK(in.failed());
}

TEST("a document cut short anywhere is refused") {
  const std::string text = R"({"a":["\\\u00e9","\ud83d\ude00)" "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80" R"("], "b" : 17})";
  size_t elements = 0;
  CHECK(readsAsDocument(text, &elements));
  CHECK_EQUAL(elements, size_t{2});
  for (size_t length = 0; length < text.size(); ++length) CHECK(!readsAsDocument(text.substr(0, length), &elements));
}

TEST("a failure sticks") {
  Reader in(R"(["x", 1])");
  uint64_t number = 0;
  std::string value;
  CHECK(in.openArray() && in.nextElement());
  CHECK(!in.readInteger(&number));
  CHECK(!in.readString(&value));
  CHECK(!in.nextElement());
  CHECK(!in.finish());
}

TEST("a reader that failed inside a value does not find its feet again") {
  Reader in(R"(["\q,1])");
  uint64_t number = 0;
  std::string value;
  CHECK(in.openArray() && in.nextElement() && !in.readString(&value));
  CHECK(!in.nextElement() && !in.readInteger(&number) && !in.skipValue() && !in.finish());
}

TEST("an array is not read as an object, nor the reverse") {
  std::string name;
  Reader array(R"(["a"])");
  CHECK(array.openArray());
  CHECK(!array.nextMember(&name));
  Reader object(R"({"a":1})");
  CHECK(object.openObject());
  CHECK(!object.nextElement());
}

TEST("values of any kind and depth can be passed over") {
  for (const char* skipped : {"1", "-1.5e+7", "true", "null", R"("x\"]")", "[]", "{}", R"([[[[[[{"a":[1,"]",{}]}]]]]]])"}) {
    const std::string text = std::string(R"({"skip":)") + skipped + R"(,"format":2})";
    Reader in(text);
    std::string name;
    uint64_t format = 0;
    CHECK(in.openObject() && in.nextMember(&name) && in.skipValue());
    CHECK(in.nextMember(&name) && name == "format" && in.readInteger(&format) && !in.nextMember(&name) && in.finish());
    CHECK_EQUAL(format, 2u);
  }
  for (const char* broken : {"", "[", "]", ",", ":", "[\"x", "[\"\\q\"]", "\x01"}) CHECK(!Reader(broken).skipValue());
}

MAIN
