//! Names: how much text a schema's names come to when each is written out with all that it stands in, as compilers do.
//!
//! Owns: counting it before anything is compiled. A package is said once and is part of every name: a megabyte of fields in a package of a megabyte
//! would be gigabytes of names. Where a name is looked for in each package around it, each try counts. Neighbour: `protobuf`, which compiles.

use prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, ServiceDescriptorProto, UninterpretedOption,
};

/// The most bytes of names that are written out for a schema with all that it refers to.
const LIMIT_NAMES_BYTES: usize = 64 << 20;

/// What files have names for.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// What the names take when each is written out.
    pub(super) bytes: usize,
    pub(super) count: usize,
}

/// The names of files.
pub(super) fn of<'a>(files: impl Iterator<Item = &'a FileDescriptorProto>) -> Names {
    let mut names = Names::default();
    files.for_each(|file| names.file(file));
    names
}

/// Whether files can be compiled within the limit.
pub(super) fn check<'a>(files: impl Iterator<Item = &'a FileDescriptorProto>) -> Result<(), String> {
    let names = of(files);
    if names.bytes > LIMIT_NAMES_BYTES {
        return Err(format!("its names, written out in full, take {} bytes; at most {LIMIT_NAMES_BYTES} are read", names.bytes));
    }
    Ok(())
}

/// What a name stands in.
#[derive(Clone, Copy)]
struct Scope {
    bytes: usize,
    parts: usize,
}

impl Scope {
    fn with(self, name: &str) -> Self {
        Self { bytes: self.bytes + 1 + name.len(), parts: self.parts + 1 }
    }
}

impl Names {
    fn file(&mut self, file: &FileDescriptorProto) {
        let package = file.package();
        let scope = Scope { bytes: package.len(), parts: package.split('.').count() };
        // Each package around is a name too.
        self.looked_for(scope, "");
        file.message_type.iter().for_each(|message| self.message(scope, message));
        file.enum_type.iter().for_each(|of| self.values(scope, of));
        file.extension.iter().for_each(|field| self.field(scope, field));
        file.service.iter().for_each(|service| self.service(scope, service));
        self.options(scope, file.options.as_ref().map(|options| &options.uninterpreted_option));
    }

    fn message(&mut self, scope: Scope, message: &DescriptorProto) {
        let within = self.name(scope, message.name());
        message.field.iter().chain(&message.extension).for_each(|field| self.field(within, field));
        message.nested_type.iter().for_each(|nested| self.message(within, nested));
        message.enum_type.iter().for_each(|of| self.values(within, of));
        for one in &message.oneof_decl {
            let one_of = self.name(within, one.name());
            self.options(one_of, one.options.as_ref().map(|options| &options.uninterpreted_option));
        }
        self.options(within, message.options.as_ref().map(|options| &options.uninterpreted_option));
    }

    fn field(&mut self, scope: Scope, field: &FieldDescriptorProto) {
        let within = self.name(scope, field.name());
        [&field.type_name, &field.extendee].into_iter().flatten().for_each(|name| self.looked_for(scope, name));
        self.options(within, field.options.as_ref().map(|options| &options.uninterpreted_option));
    }

    fn values(&mut self, scope: Scope, of: &EnumDescriptorProto) {
        let within = self.name(scope, of.name());
        for value in &of.value {
            let value_of = self.name(scope, value.name());
            self.options(value_of, value.options.as_ref().map(|options| &options.uninterpreted_option));
        }
        self.options(within, of.options.as_ref().map(|options| &options.uninterpreted_option));
    }

    fn service(&mut self, scope: Scope, service: &ServiceDescriptorProto) {
        let within = self.name(scope, service.name());
        for method in &service.method {
            let method_of = self.name(within, method.name());
            [&method.input_type, &method.output_type].into_iter().flatten().for_each(|name| self.looked_for(within, name));
            self.options(method_of, method.options.as_ref().map(|options| &options.uninterpreted_option));
        }
        self.options(within, service.options.as_ref().map(|options| &options.uninterpreted_option));
    }

    fn options(&mut self, scope: Scope, options: Option<&Vec<UninterpretedOption>>) {
        for part in options.into_iter().flatten().flat_map(|option| &option.name) {
            self.looked_for(scope, &part.name_part);
        }
    }

    fn name(&mut self, scope: Scope, name: &str) -> Scope {
        let within = scope.with(name);
        self.bytes = self.bytes.saturating_add(within.bytes);
        self.count += 1;
        within
    }

    fn looked_for(&mut self, scope: Scope, name: &str) {
        let tries = if name.starts_with('.') { 1 } else { scope.parts + 1 };
        self.bytes = self.bytes.saturating_add(tries.saturating_mul(scope.bytes + 1 + name.len()));
    }
}
