// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"path/filepath"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"
)

// ServiceAccountKubeconfig writes a kubeconfig for an existing service account and
// returns its path. The account has the rights that its bindings give it and no others.
func (c *Cluster) ServiceAccountKubeconfig(ctx context.Context, namespace, name string) (string, error) {
	client, err := kubernetes.NewForConfig(c.admin)
	if err != nil {
		return "", fmt.Errorf("make a client: %w", err)
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To(int64(lifetime.Seconds()))}}
	token, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("request a token for the service account %s/%s: %w", namespace, name, err)
	}
	path := filepath.Join(c.options.Dir, namespace+"-"+name+".kubeconfig")
	return path, c.writeKubeconfig(path, namespace, &clientcmdapi.AuthInfo{Token: token.Status.Token})
}

// clientKubeconfig writes a kubeconfig with a client certificate.
func (c *Cluster) clientKubeconfig(path, user string, groups ...string) (*rest.Config, error) {
	client, err := c.authority.client(user, groups...)
	if err != nil {
		return nil, err
	}
	info := &clientcmdapi.AuthInfo{ClientCertificateData: client.cert, ClientKeyData: client.key}
	if err := c.writeKubeconfig(path, metav1.NamespaceDefault, info); err != nil {
		return nil, err
	}
	return &rest.Config{
		Host:            c.server,
		TLSClientConfig: rest.TLSClientConfig{CAData: c.authority.cert, CertData: client.cert, KeyData: client.key},
		// The tests poll; the limits of a well-behaved client would only slow them down.
		QPS: -1,
	}, nil
}

func (c *Cluster) writeKubeconfig(path, namespace string, user *clientcmdapi.AuthInfo) error {
	const name = "loopback"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: c.server, CertificateAuthorityData: c.authority.cert}
	config.AuthInfos[name] = user
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name, Namespace: namespace}
	config.CurrentContext = name
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return fmt.Errorf("write the kubeconfig %s: %w", path, err)
	}
	return nil
}
