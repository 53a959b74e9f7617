{
  "targets": [
    {
      "target_name": "progressdb_kms",
      "sources": [
        "native/addon.cc",
        "native/acceptor.cc",
        "native/append_calls.cc",
        "native/audit_calls.cc",
        "native/certificate_calls.cc",
        "native/database_calls.cc",
        "native/document_calls.cc",
        "native/hot_calls.cc",
        "native/listen_calls.cc",
        "native/pool_calls.cc",
        "native/record_calls.cc",
        "<!@(node -p \"require('fs').readdirSync('native/core').filter((f) => f.endsWith('.cc')).map((f) => 'native/core/' + f).join(' ')\")"
      ],
      "include_dirs": ["native"],
      "defines": ["NAPI_VERSION=9", "NODE_ADDON_API_DISABLE_DEPRECATED", "NAPI_DISABLE_CPP_EXCEPTIONS"],
      "cflags!": ["-fno-exceptions"],
      "cflags_cc!": ["-fno-exceptions", "-std=gnu++17", "-fno-rtti"],
      "cflags_cc": [
        "-std=c++17", "-O2", "-fno-exceptions", "-fvisibility=hidden", "-fstack-protector-strong", "-fno-plt", "-Wall", "-Wextra",
        "-Wshadow", "-Wconversion", "-Wno-sign-conversion", "-Wno-cast-function-type",
        "-isystem", "<!(node -p \"require('path').resolve(require('node-addon-api').include_dir)\")",
        "-isystem", "<(node_root_dir)/include/node"
      ],
      "conditions": [
        ["OS=='linux'", { "ldflags": ["-Wl,-z,relro,-z,now,-z,noexecstack"] }],
        ["OS=='mac'", { "xcode_settings": {
          "CLANG_CXX_LANGUAGE_STANDARD": "c++17", "GCC_ENABLE_CPP_EXCEPTIONS": "NO", "GCC_SYMBOLS_PRIVATE_EXTERN": "YES",
          "OTHER_CPLUSPLUSFLAGS": ["-isystem", "<!(node -p \"require('path').resolve(require('node-addon-api').include_dir)\")"] } }]
      ]
    }
  ]
}
