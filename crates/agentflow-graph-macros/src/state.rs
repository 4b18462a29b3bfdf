//! Expansion of `#[derive(GraphState)]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Data, DeriveInput, Error, Field, Fields, Ident, Result, Type, Visibility};

/// How writes to a field are combined.
enum Rule {
    Named(Ident),
    Reducer(syn::Path),
    /// The library computes the field; nobody writes it.
    Managed(Ident),
}

/// One channel of the state.
struct Key {
    name: Ident,
    wire: String,
    ty: Type,
    vis: Visibility,
    docs: Vec<syn::Attribute>,
    rule: Rule,
    /// Updates after which a delta channel stores its whole value.
    snapshot_every: Option<syn::LitInt>,
}

/// Fields that the library computes, and what they are.
const MANAGED: [(&str, &str); 2] = [
    ("remaining_steps", "RemainingSteps"),
    ("is_last_step", "IsLastStep"),
];

/// Rules that are methods of `Channel`.
const RULES: [&str; 12] = [
    "append",
    "messages",
    "delta_append",
    "delta_messages",
    "sum",
    "concat",
    "max",
    "min",
    "merge",
    "any_value",
    "ephemeral",
    "untracked",
];

impl Key {
    fn read(field: Field) -> Result<Self> {
        let name = field.ident.clone().expect("named fields have names");
        let mut rule = Rule::Named(format_ident!("last_value"));
        let mut snapshot_every = None;
        for attribute in field.attrs.iter().filter(|a| a.path().is_ident("state")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("reducer") {
                    rule = Rule::Reducer(meta.value()?.parse()?);
                    return Ok(());
                }
                if meta.path.is_ident("snapshot_every") {
                    snapshot_every = Some(meta.value()?.parse()?);
                    return Ok(());
                }
                let managed = MANAGED.iter().find(|(word, _)| meta.path.is_ident(word));
                if let Some((_, name)) = managed {
                    rule = Rule::Managed(format_ident!("{name}"));
                    return Ok(());
                }
                let known = RULES.iter().find(|known| meta.path.is_ident(known));
                let known = known.ok_or_else(|| {
                    meta.error(format!(
                        "unknown rule; one of {}, remaining_steps, is_last_step, reducer = path, \
                         snapshot_every = number",
                        RULES.join(", ")
                    ))
                })?;
                rule = Rule::Named(format_ident!("{known}"));
                Ok(())
            })?;
        }
        let docs = field
            .attrs
            .iter()
            .filter(|a| a.path().is_ident("doc"))
            .cloned()
            .collect();
        let wire = name.to_string();
        let wire = wire.strip_prefix("r#").unwrap_or(&wire).to_owned();
        Ok(Self {
            name,
            wire,
            ty: field.ty,
            vis: field.vis,
            docs,
            rule,
            snapshot_every,
        })
    }

    /// What the library computes for this field, if it does.
    fn managed(&self) -> Option<TokenStream> {
        let Rule::Managed(name) = &self.rule else {
            return None;
        };
        let wire = &self.wire;
        Some(quote!((#wire, ::agentflow_graph::Managed::#name)))
    }

    fn is_channel(&self) -> bool {
        !matches!(self.rule, Rule::Managed(_))
    }

    fn channel(&self) -> TokenStream {
        let wire = &self.wire;
        let ty = &self.ty;
        let name = &self.name;
        let channel = match &self.rule {
            Rule::Named(rule) => quote!(::agentflow_graph::Channel::#rule()),
            Rule::Managed(_) => return TokenStream::new(),
            Rule::Reducer(path) => quote!({
                let default = ::agentflow_graph::typed::to_value(
                    &<Self as ::core::default::Default>::default().#name,
                );
                ::agentflow_graph::typed::reducing::<#ty>(default, #path)
            }),
        };
        match &self.snapshot_every {
            Some(updates) => quote!((#wire, #channel.snapshot_every(#updates))),
            None => quote!((#wire, #channel)),
        }
    }
}

fn keys(input: &DeriveInput) -> Result<Vec<Key>> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(
            &input.ident,
            "a graph's state is a struct",
        ));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(Error::new_spanned(
            &input.ident,
            "a graph's state has named fields",
        ));
    };
    fields.named.iter().cloned().map(Key::read).collect()
}

pub(crate) fn expand(input: DeriveInput) -> Result<TokenStream> {
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &input.generics,
            "a graph's state is not generic",
        ));
    }
    let keys = keys(&input)?;
    let names = Names {
        state: &input.ident,
        update: &format_ident!("{}Update", input.ident),
        vis: &input.vis,
    };
    let (state, update) = (state_impl(&names, &keys), update_struct(&names, &keys));
    Ok(quote!(#state #update))
}

/// Names of what is made.
struct Names<'a> {
    state: &'a Ident,
    update: &'a Ident,
    vis: &'a Visibility,
}

/// The channels of the state.
fn state_impl(names: &Names<'_>, keys: &[Key]) -> TokenStream {
    let Names { state, update, vis } = names;
    let channels = keys.iter().filter(|key| key.is_channel()).map(Key::channel);
    let managed = keys.iter().filter_map(Key::managed);
    quote! {
        impl ::agentflow_graph::typed::GraphState for #state {
            type Update = #update;

            fn channels() -> ::std::vec::Vec<(&'static str, ::agentflow_graph::Channel)> {
                ::std::vec![#(#channels),*]
            }

            fn managed() -> ::std::vec::Vec<(&'static str, ::agentflow_graph::Managed)> {
                ::std::vec![#(#managed),*]
            }
        }

        impl #state {
            /// An update that writes nothing yet.
            #[must_use]
            #vis fn update() -> #update {
                ::core::default::Default::default()
            }
        }
    }
}

/// The partial update: optional fields, setters, and its writes.
fn update_struct(names: &Names<'_>, keys: &[Key]) -> TokenStream {
    let Names { state, update, vis } = names;
    let keys: Vec<&Key> = keys.iter().filter(|key| key.is_channel()).collect();
    let doc = format!("A partial update of [`{state}`]: fields that are set are written.");
    let fields = keys.iter().map(|key| {
        let Key {
            name,
            ty,
            vis,
            docs,
            ..
        } = key;
        quote!(#(#docs)* #vis #name: ::core::option::Option<#ty>)
    });
    let setters = keys.iter().map(|key| {
        let Key { name, ty, vis, .. } = key;
        let doc = format!("Writes `{}`.", key.wire);
        quote! {
            #[doc = #doc]
            #[must_use]
            #vis fn #name(mut self, value: impl ::core::convert::Into<#ty>) -> Self {
                self.#name = ::core::option::Option::Some(value.into());
                self
            }
        }
    });
    let writes = keys.iter().map(|key| {
        let (name, wire) = (&key.name, &key.wire);
        quote! {
            if let ::core::option::Option::Some(value) = &self.#name {
                writes.push((#wire, ::agentflow_graph::typed::try_value(value)?));
            }
        }
    });
    quote! {
        #[doc = #doc]
        #[derive(Clone, Default)]
        #[allow(dead_code, reason = "a state may have fields that only its input writes")]
        #vis struct #update {
            #(#fields),*
        }

        #[allow(dead_code, reason = "a state may have fields that only its input writes")]
        impl #update {
            #(#setters)*
        }

        impl ::agentflow_graph::typed::Update for #update {
            fn into_output(self) -> ::agentflow_graph::typed::Result<::agentflow_graph::NodeOutput> {
                #[allow(unused_mut)]
                let mut writes: ::std::vec::Vec<(&'static str, ::agentflow_graph::typed::Value)> =
                    ::std::vec::Vec::new();
                #(#writes)*
                ::core::result::Result::Ok(::agentflow_graph::typed::Value::object(writes).into())
            }
        }
    }
}
